// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_TEMP_DIR_H_
#define MNEME_TESTS_SUPPORT_TEMP_DIR_H_

#include <string>
#include <string_view>

namespace mneme {

// A folder that goes away with the object.
class TempDir {
 public:
  TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();

  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const;

 private:
  std::string path_;
};

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, std::string_view contents);

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_TEMP_DIR_H_
