// What the virtual programs compute with: numbers, and references beside them.
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ray/core/core_worker.h"

namespace ray::sim {

using Session = std::shared_ptr<core::CoreWorker>;

// What Python's ObjectRef is: one local reference.
class Handle {
 public:
  // Of one that the session has counted already.
  Handle(Session session, const base::ObjectId& id, core::AddressPtr owner)
      : session_(std::move(session)), id_(id), owner_(std::move(owner)) {}
  ~Handle() { session_->ReleaseLater(core::ReleaseQueue::Kind::kReference, id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  const base::ObjectId& id() const { return id_; }
  core::ContainedObject Named() const { return {id_, owner_}; }

 private:
  const Session session_;
  const base::ObjectId id_;
  const core::AddressPtr owner_;
};
using HandlePtr = std::shared_ptr<Handle>;

// One that arrives here.
HandlePtr Receive(const Session& session, const core::ContainedObject& object);

struct Value {
  uint64_t number = 0;
  std::vector<HandlePtr> refs;
  std::string error;    // not empty: it is no value, but this (a code)
  std::string message;  // of the error, if it is one of the system
};

inline uint64_t Mix(uint64_t a, uint64_t b) {
  return (a ^ (b + 0x9e3779b97f4a7c15ULL + (a << 6) + (a >> 2))) * 0x100000001b3ULL;
}

// The bytes of a value. `padding` makes it larger.
std::string Encode(const core::AddressPtr& self, uint64_t number,
                   const std::vector<core::ContainedObject>& refs, size_t padding);
core::ValueParts AsValue(std::string_view bytes);
Value Decode(const Session& session, std::string_view value_bytes);

// Waits. An error "ENDED": this session has ended.
Value Get(const Session& session, const HandlePtr& object, const base::TaskId& waiter,
          int64_t deadline = core::CoreWorker::kNoDeadline);
HandlePtr Put(const Session& session, uint64_t number, bool in_store, size_t padding);

}  // namespace ray::sim
