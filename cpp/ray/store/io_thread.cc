#include "ray/store/io_thread.h"

#include <system_error>

#include "absl/strings/str_cat.h"

namespace ray::store {

absl::Status IoThread::Start() {
  try {
    thread_ = std::thread([this] { RunAll(); });
  } catch (const std::system_error& error) {
    return absl::UnavailableError(absl::StrCat("no thread for input and output: ", error.what()));
  }
  return absl::OkStatus();
}

IoThread::~IoThread() {
  if (!thread_.joinable()) return;  // it was not started
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    work_came_.Signal();
  }
  thread_.join();
}

void IoThread::Enqueue(absl::AnyInvocable<void()> operation) {
  absl::MutexLock lock(&mutex_);
  operations_.push_back(std::move(operation));
  work_came_.Signal();
}

void IoThread::RunAll() {
  while (true) {
    absl::AnyInvocable<void()> operation;
    {
      absl::MutexLock lock(&mutex_);
      while (!HasWork()) work_came_.Wait(&mutex_);
      if (stopping_) return;
      operation = std::move(operations_.front());
      operations_.pop_front();
    }
    operation();
  }
}

}  // namespace ray::store
