#include "ray/net/tls_file_watch.h"

#include <utility>

#include "ray/base/logging.h"
#include "ray/base/status_macros.h"

namespace ray::net {

TlsFileWatch::TlsFileWatch(EventLoop* loop, TlsCredentials present, absl::Duration interval,
                           Use use)
    : loop_(loop), interval_(interval), use_(std::move(use)), present_(std::move(present)) {
  LookLater();
}

TlsFileWatch::~TlsFileWatch() { loop_->Cancel(timer_); }

void TlsFileWatch::LookLater() {
  if (present_.files.certificate.empty() || interval_ <= absl::ZeroDuration()) return;
  timer_ = loop_->RunAfter(interval_, [this] {
    Look();
    LookLater();
  });
}

void TlsFileWatch::Look() {
  const std::string complaint(TakeNew().message());
  if (complaint == std::exchange(said_, complaint) || complaint.empty()) return;
  MANTA_LOG(kWarning, "the certificates stay as they were: ", complaint);
}

absl::Status TlsFileWatch::TakeNew() {
  MANTA_ASSIGN_OR_RETURN(TlsCredentials read, ReadTlsCredentials(present_.files));
  const bool same = read.certificate == present_.certificate && read.key == present_.key &&
                    read.authority == present_.authority;
  if (same) return absl::OkStatus();
  MANTA_RETURN_IF_ERROR(use_(read));
  MANTA_LOG(kInfo, "new certificates are in use, read from ", read.files.certificate, ", ",
            read.files.key, " and ", read.files.authority);
  present_ = std::move(read);
  return absl::OkStatus();
}

}  // namespace ray::net
