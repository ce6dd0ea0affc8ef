// SPDX-License-Identifier: Apache-2.0
#include "server/listen_address.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme::server {
namespace {

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

TEST(ListenAddressTest, FormsAreChecked) {
  for (const char* good :
       {"127.0.0.1:0", "[::1]:7600", "localhost:65535", "unix:/x"}) {
    EXPECT_THAT(CheckListenAddress(good), IsOk()) << good;
  }
  for (const char* bad : {"", "7600", ":7600", "h:65536", "h:-1", "unix:"}) {
    EXPECT_FALSE(CheckListenAddress(bad).ok()) << bad;
  }
  EXPECT_THAT(CheckListenAddress("unix:" + std::string(107, 'x')), IsOk());
  EXPECT_THAT(CheckListenAddress("unix:" + std::string(108, 'x')),
              Fails(absl::StatusCode::kInvalidArgument, "108 bytes"));
}

TEST(ListenAddressTest, AUnixSocketIsTakenFromNobody) {
  const TempDir dir;
  const std::string path = dir.File("s");
  const std::string address = "unix:" + path;
  EXPECT_THAT(CheckCanListen(address), IsOk());
  EXPECT_THAT(CheckCanListen("unix:" + dir.File("none/s")),
              Fails(kUnavailable, "No such file or directory"));
  WriteFile(path, "data");
  EXPECT_THAT(CheckCanListen(address), Fails(kUnavailable, "no socket"));
  ASSERT_EQ(unlink(path.c_str()), 0);

  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un where = {};
  where.sun_family = AF_UNIX;
  std::strncpy(where.sun_path, path.c_str(), sizeof(where.sun_path) - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&where), sizeof(where)), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  EXPECT_THAT(CheckCanListen(address),
              Fails(kUnavailable, "another program listens there"));
  close(fd);
  EXPECT_THAT(CheckCanListen(address), IsOk());  // what is left of one
}

TEST(ListenAddressTest, AnAddressOfAnotherMachineIsNamed) {
  EXPECT_THAT(CheckCanListen("192.0.2.1:7600"),
              Fails(kUnavailable, "cannot listen on 192.0.2.1:7600: "));
}

}  // namespace
}  // namespace mneme::server
