#include "ray/gcs/answered_requests.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"

namespace ray::gcs {
namespace {

constexpr std::string_view kTable = "answered";

}  // namespace

absl::Status AnsweredRequests::Load() {
  absl::Status damage;
  absl::Status scanned =
      storage_->Scan(kTable, "", [&](std::string_view key, std::string_view value) {
        // "<number> <reply>"
        const size_t space = value.find(' ');
        uint64_t number = 0;
        if (space == std::string_view::npos ||
            !absl::SimpleAtoi(absl::string_view(value.data(), space), &number)) {
          damage = absl::DataLossError("unreadable answer to a request");
          return false;
        }
        answers_[std::string(key)] = {number, std::string(value.substr(space + 1))};
        by_number_[number] = key;
        last_number_ = std::max(last_number_, number);
        return true;
      });
  MANTA_RETURN_IF_ERROR(scanned);
  MANTA_RETURN_IF_ERROR(damage);
  WriteBatch batch;
  while (by_number_.size() > remembered_max_) ForgetOldest(&batch);
  return batch.changes().empty() ? absl::OkStatus() : storage_->Write(batch);
}

const std::string* AnsweredRequests::Find(const std::string& request_id) const {
  auto found = answers_.find(request_id);
  return found == answers_.end() ? nullptr : &found->second.reply;
}

void AnsweredRequests::Remember(const std::string& request_id, std::string reply,
                                WriteBatch* batch) {
  if (request_id.empty()) return;
  const uint64_t number = ++last_number_;
  batch->Put(kTable, request_id, absl::StrCat(number, " ", reply));
  answers_[request_id] = {number, std::move(reply)};
  by_number_[number] = request_id;
  if (by_number_.size() > remembered_max_) ForgetOldest(batch);
}

void AnsweredRequests::Forget(const std::string& request_id) {
  auto found = answers_.find(request_id);
  if (found == answers_.end()) return;
  by_number_.erase(found->second.number);
  answers_.erase(found);
}

void AnsweredRequests::ForgetOldest(WriteBatch* batch) {
  const auto oldest = by_number_.begin();
  batch->Delete(kTable, oldest->second);
  answers_.erase(oldest->second);
  by_number_.erase(oldest);
}

}  // namespace ray::gcs
