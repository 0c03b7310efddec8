// Help for tests of what talks over TLS: an authority that signs certificates.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <utility>

#include "ray/base/check.h"
#include "ray/net/tls_channel.h"
#include "ray/net/tls_credentials.h"

namespace ray::net {

class TestAuthority {
 public:
  explicit TestAuthority(std::string name = "authority")
      : name_(std::move(name)),
        key_(MakeKey()),
        certificate_(Sign(key_.get(), name_.c_str(), 0, 3600)) {}

  // A certificate that is valid from and until so many seconds from now.
  TlsCredentials Credentials(long from_s = -60, long until_s = 3600) const {
    const KeyPtr key = MakeKey();
    const CertificatePtr certificate = Sign(key.get(), "node", from_s, until_s);
    return {.certificate = Text(PEM_write_bio_X509, certificate.get()),
            .key = Text(WriteKey, key.get()),
            .authority = Text(PEM_write_bio_X509, certificate_.get())};
  }
  std::shared_ptr<const TlsContext> Context() const { return *TlsContext::Create(Credentials()); }

 private:
  using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using CertificatePtr = std::unique_ptr<X509, decltype(&X509_free)>;

  static KeyPtr MakeKey() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }

  static int WriteKey(BIO* into, const EVP_PKEY* key) {
    return PEM_write_bio_PrivateKey(into, key, nullptr, nullptr, 0, nullptr, nullptr);
  }

  template <typename Write, typename T>
  static std::string Text(Write write, T* what) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
    MANTA_CHECK(write(bio.get(), what) == 1);
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    return {bytes, static_cast<size_t>(size)};
  }

  CertificatePtr Sign(EVP_PKEY* key, const char* name, long from_s, long until_s) const {
    CertificatePtr made(X509_new(), X509_free);
    X509_set_version(made.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), from_s);
    X509_gmtime_adj(X509_getm_notAfter(made.get()), until_s);
    X509_set_pubkey(made.get(), key);
    SetName(X509_get_subject_name(made.get()), name);
    SetName(X509_get_issuer_name(made.get()), name_.c_str());
    if (key == key_.get()) {
      X509_EXTENSION* is_authority =
          X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
      X509_add_ext(made.get(), is_authority, -1);
      X509_EXTENSION_free(is_authority);
    }
    MANTA_CHECK(X509_sign(made.get(), key_.get(), EVP_sha256()) > 0);
    return made;
  }

  static void SetName(X509_NAME* name, const char* text) {
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(text), -1, -1, 0);
  }

  const std::string name_;
  const KeyPtr key_;
  const CertificatePtr certificate_;
};

}  // namespace ray::net
