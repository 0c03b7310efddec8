// The store's memory as one process sees it: a memory file without a name, mapped whole, once a
// process.
//
// The raylet creates it and sends the descriptor to its clients (HelloReply), which map it. Having
// no name, it is gone with its last process, however that ends. It is sealed against a change of
// size, so that no peer can make an access fault. Pages that nobody touched cost nothing.
//
// Owner: the raylet's main, and the core worker of each client.
// Threads: thread-safe; the bytes belong to whoever the ObjectStore lent them to.
// Errors: kResourceExhausted = the system gives no memory; kInvalidArgument = the descriptor is no
// store memory of the announced size.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "ray/net/endpoint.h"
#include "ray/store/extent.h"

namespace ray::store {

class SharedMemory {
 public:
  // The raylet's side. capacity_bytes > 0 is rounded up to whole pages.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Create(uint64_t capacity_bytes);

  // The client's side: maps a received descriptor for reading and writing. The file must hold
  // capacity_bytes (what HelloReply said) and be sealed against shrinking.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Map(net::UniqueFd fd,
                                                           uint64_t capacity_bytes);

  // The client's side, of an object that has a file instead (docs/object_store.md): maps that
  // extent of the file, which begins on a page; it is At(0) of the result. The descriptor is not
  // kept. kUnavailable: the file cannot be opened or mapped.
  enum class Access { kRead, kWrite };
  static absl::StatusOr<std::unique_ptr<SharedMemory>> MapFile(const std::string& path,
                                                               Extent extent, Access access);

  ~SharedMemory();  // unmaps: no view into it may outlive this
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::byte* At(uint64_t offset) const { return base_ + offset; }
  uint64_t capacity_bytes() const { return capacity_bytes_; }
  int fd() const { return fd_.get(); }  // not of MapFile

  // Whether an extent that a peer named lies inside.
  bool Contains(Extent extent) const {
    return extent.offset <= capacity_bytes_ && extent.size <= capacity_bytes_ - extent.offset;
  }

  // Maps the pages of `extent` into this process in bulk, where it has not done so before. Changes
  // no byte. Without it, writing there takes a page fault a page.
  void PrepareWrite(Extent extent) const;

  // Makes the pages of `extent` present in the system, whichever process uses them next, without
  // changing a byte, even while clients write there. They do not count as memory of this process.
  void Touch(Extent extent) const;

  // Gives the whole pages inside `extent` back to the system; they read as zeros afterwards. Nobody
  // may hold them.
  void ReturnPages(Extent extent) const;

  // Ends this process's use of the whole pages inside `extent`, which keep their contents. For a
  // process that reads or writes much memory once (spilling), so that it does not count as that
  // process's.
  void Unuse(Extent extent) const;

 private:
  // What PrepareWrite remembers: a bit for each chunk that it has mapped.
  static constexpr uint64_t kChunkBytes = 2 << 20;

  SharedMemory(net::UniqueFd fd, std::byte* base, uint64_t capacity_bytes);
  static absl::StatusOr<std::unique_ptr<SharedMemory>> MapWhole(net::UniqueFd fd,
                                                                uint64_t capacity_bytes);

  const net::UniqueFd fd_;
  std::byte* const base_;
  const uint64_t capacity_bytes_;
  // By chunk. Set after the chunk was mapped; a race maps it twice, which is harmless.
  const std::unique_ptr<std::atomic<bool>[]> prepared_;
};

}  // namespace ray::store
