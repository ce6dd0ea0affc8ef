// SPDX-License-Identifier: Apache-2.0
#include "server/listen_address.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mneme::server {
namespace {

constexpr char kUnix[] = "unix:";
constexpr size_t kMaxPathBytes = sizeof(sockaddr_un::sun_path) - 1;

absl::Status CannotListen(const std::string& address, const std::string& why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": ", why));
}

// A socket that goes with the object.
class Socket {
 public:
  explicit Socket(int family, int flags = 0)
      : fd_(socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

absl::Status CheckUnix(const std::string& address, const std::string& path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) {
      return CannotListen(address, "there is a file that is no socket");
    }
    const Socket probe(AF_UNIX);
    sockaddr_un where = {};
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, path.data(), path.size());
    if (connect(probe.fd(), reinterpret_cast<sockaddr*>(&where),
                sizeof(where)) == 0) {
      return CannotListen(address, "another program listens there");
    }
  }
  const size_t slash = path.rfind('/');
  const std::string folder =
      slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    return CannotListen(address,
                        absl::StrCat(folder, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

// What HOST:PORT stands for; what getaddrinfo returns.
int FindTcp(const std::string& address, addrinfo** found) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  return getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints,
                     found);
}

absl::Status CheckTcp(const std::string& address) {
  addrinfo* found = nullptr;
  const int failed = FindTcp(address, &found);
  if (failed != 0) return CannotListen(address, gai_strerror(failed));
  const Socket probe(found->ai_family);
  const int on = 1;
  setsockopt(probe.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = bind(probe.fd(), found->ai_addr, found->ai_addrlen) == 0 &&
                     listen(probe.fd(), 1) == 0;
  const int error = errno;
  freeaddrinfo(found);
  return bound ? absl::OkStatus() : CannotListen(address, std::strerror(error));
}

}  // namespace

bool IsHostAndPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  int port = -1;
  return absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 0 &&
         port <= 65535;
}

absl::Status CheckListenAddress(const std::string& address) {
  if (absl::StartsWith(address, kUnix)) {
    const size_t bytes = address.size() - (sizeof(kUnix) - 1);
    if (bytes >= 1 && bytes <= kMaxPathBytes) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("a path of ", bytes, " bytes, wanted unix:PATH with 1 to ",
                     kMaxPathBytes));
  }
  if (IsHostAndPort(address)) return absl::OkStatus();
  return absl::InvalidArgumentError("wanted HOST:PORT or unix:PATH");
}

absl::Status CheckCanListen(const std::string& address) {
  if (absl::StartsWith(address, kUnix)) {
    return CheckUnix(address, address.substr(sizeof(kUnix) - 1));
  }
  return CheckTcp(address);
}

void Knock(const std::string& address) {
  addrinfo* found = nullptr;
  if (FindTcp(address, &found) != 0) return;
  const Socket socket(found->ai_family, SOCK_NONBLOCK);
  connect(socket.fd(), found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
}

}  // namespace mneme::server
