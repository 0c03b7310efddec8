#include "ray/net/tls_file_watch.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "ray/net/tls_channel.h"
#include "ray/net/tls_testutil.h"

namespace ray::net {
namespace {

class TlsFileWatchTest : public testing::Test {
 protected:
  TlsFileWatchTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "manta-tls-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    files_ = {folder_ + "/crt", folder_ + "/key", folder_ + "/ca"};
    Write(first_);
  }
  ~TlsFileWatchTest() override { std::filesystem::remove_all(folder_); }

  void Write(const TlsCredentials& credentials) {
    std::ofstream(files_.certificate) << credentials.certificate;
    std::ofstream(files_.key) << credentials.key;
    std::ofstream(files_.authority) << credentials.authority;
  }
  TlsFileWatch::Use Use() {
    return [this](const TlsCredentials& credentials) {
      if (absl::Status status = context_->Replace(credentials); !status.ok()) return status;
      used_.push_back(credentials.certificate);
      return absl::OkStatus();
    };
  }

  const TestAuthority authority_;
  const TlsCredentials first_ = authority_.Credentials();
  const TlsCredentials second_ = authority_.Credentials();
  std::string folder_;
  TlsFiles files_;
  std::shared_ptr<TlsContext> context_ = *TlsContext::Create(first_);
  std::vector<std::string> used_;
  EventLoop loop_;
};

TEST_F(TlsFileWatchTest, TakesNewFilesOnce) {
  TlsFileWatch watch(&loop_, *ReadTlsCredentials(files_), absl::InfiniteDuration(), Use());
  watch.Look();
  EXPECT_TRUE(used_.empty());
  Write(second_);
  watch.Look();
  watch.Look();
  EXPECT_EQ(used_, std::vector<std::string>{second_.certificate});
}

TEST_F(TlsFileWatchTest, FilesThatDoNotFitTogetherChangeNothing) {
  TlsFileWatch watch(&loop_, *ReadTlsCredentials(files_), absl::InfiniteDuration(), Use());
  std::ofstream(files_.certificate) << second_.certificate;  // its key comes a moment later
  watch.Look();
  std::filesystem::remove(files_.key);
  watch.Look();
  EXPECT_TRUE(used_.empty());
  Write(second_);
  watch.Look();
  EXPECT_EQ(used_, std::vector<std::string>{second_.certificate});
}

TEST_F(TlsFileWatchTest, LooksByItself) {
  TlsFileWatch watch(&loop_, *ReadTlsCredentials(files_), absl::Milliseconds(1), Use());
  Write(second_);
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (used_.empty() && absl::Now() < deadline) loop_.Poll(absl::Milliseconds(20));
  EXPECT_EQ(used_.size(), 1u);
}

TEST_F(TlsFileWatchTest, WithoutFilesThereIsNothingToLookAt) {
  TlsFileWatch watch(&loop_, first_, absl::Milliseconds(1), Use());
  for (int i = 0; i < 5; ++i) loop_.Poll(absl::Milliseconds(1));
  EXPECT_TRUE(used_.empty());
}

}  // namespace
}  // namespace ray::net
