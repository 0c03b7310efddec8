#include "ray/net/tls_credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "ray/base/temp_folder_testutil.h"

namespace ray::net {
namespace {

using ::testing::HasSubstr;

constexpr const char* kPem = "-----BEGIN CERTIFICATE-----\n";
constexpr const char* kVariables[] = {"RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY",
                                      "RAY_TLS_CA_CERT"};

class TlsCredentialsTest : public ::testing::Test {
 protected:
  TlsCredentialsTest() {
    for (const char* variable : kVariables) unsetenv(variable);
  }
  ~TlsCredentialsTest() override {
    for (const char* variable : kVariables) unsetenv(variable);
  }
  std::string File(const std::string& name) {
    const std::string path = folder_ / name;
    std::ofstream(path) << kPem << name;
    return path;
  }
  void SetEnvironment(const char* use) {
    setenv("RAY_USE_TLS", use, 1);
    setenv("RAY_TLS_SERVER_CERT", File("env cert").c_str(), 1);
    setenv("RAY_TLS_SERVER_KEY", File("env key").c_str(), 1);
    setenv("RAY_TLS_CA_CERT", File("env ca").c_str(), 1);
  }

  const base::TempFolder folder_;
};

TEST_F(TlsCredentialsTest, NothingNamedIsNoTls) {
  auto credentials = ReadTlsCredentials({});
  ASSERT_TRUE(credentials.ok());
  EXPECT_FALSE(credentials->enabled());
  SetEnvironment("0");
  EXPECT_FALSE(ReadTlsCredentials({})->enabled());
}

TEST_F(TlsCredentialsTest, EnvironmentNamesTheFiles) {
  for (const char* use : {"1", "true", "True"}) {
    SetEnvironment(use);
    auto credentials = ReadTlsCredentials({});
    ASSERT_TRUE(credentials.ok()) << credentials.status();
    EXPECT_TRUE(credentials->enabled());
    EXPECT_THAT(credentials->key, HasSubstr("env key"));
    EXPECT_THAT(credentials->authority, HasSubstr("env ca"));
  }
}

TEST_F(TlsCredentialsTest, FlagsWin) {
  SetEnvironment("1");
  auto credentials = ReadTlsCredentials({File("cert"), File("key"), File("ca")});
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  EXPECT_EQ(credentials->certificate, std::string(kPem) + "cert");
}

TEST_F(TlsCredentialsTest, HalfASetOrAFileThatIsNoneIsAnError) {
  EXPECT_THAT(ReadTlsCredentials({.certificate = File("cert")}).status().ToString(),
              HasSubstr("--tls_key_file"));
  setenv("RAY_USE_TLS", "1", 1);
  EXPECT_THAT(ReadTlsCredentials({}).status().ToString(), HasSubstr("RAY_TLS_CA_CERT"));
  const std::string missing = folder_ / "missing";
  EXPECT_THAT(ReadTlsCredentials({File("cert"), missing, File("ca")}).status().ToString(),
              HasSubstr(missing));
  std::ofstream(missing) << "not PEM";
  EXPECT_FALSE(ReadTlsCredentials({File("cert"), missing, File("ca")}).ok());
}

}  // namespace
}  // namespace ray::net
