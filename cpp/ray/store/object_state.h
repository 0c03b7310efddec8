// The states of an object in the store and the moves between them. docs/object_store.md draws the
// same table.
//
// Threads: immutable.
#pragma once

#include <cstdint>
#include <string_view>

namespace ray::store {

enum class ObjectState : uint8_t {
  kWriting,    // has memory; its creator fills it
  kInMemory,   // sealed, readable; perhaps also on disk
  kSpilling,   // sealed, readable; being written to disk
  kOnDisk,     // sealed, has no memory
  kRestoring,  // has memory that is being filled from disk
  kDeleted,    // leaves the table
};
inline constexpr int kObjectStates = 6;

struct ObjectTransition {
  ObjectState from;
  ObjectState to;
};

inline constexpr ObjectTransition kObjectTransitions[] = {
    {ObjectState::kWriting, ObjectState::kInMemory},    // Seal
    {ObjectState::kWriting, ObjectState::kDeleted},     // Abort, or the creator died
    {ObjectState::kInMemory, ObjectState::kSpilling},   // memory is short, nobody reads it
    {ObjectState::kInMemory, ObjectState::kOnDisk},     // evicted, its bytes are on disk
    {ObjectState::kInMemory, ObjectState::kDeleted},    // freed, or a secondary copy evicted
    {ObjectState::kSpilling, ObjectState::kInMemory},   // written, or the write failed
    {ObjectState::kOnDisk, ObjectState::kRestoring},    // somebody wants to read it
    {ObjectState::kOnDisk, ObjectState::kDeleted},      // freed
    {ObjectState::kRestoring, ObjectState::kInMemory},  // read back
    {ObjectState::kRestoring, ObjectState::kDeleted},   // its spill file is broken
};

constexpr bool MayMove(ObjectState from, ObjectState to) {
  for (const ObjectTransition& transition : kObjectTransitions) {
    if (transition.from == from && transition.to == to) return true;
  }
  return false;
}

constexpr bool HasMemory(ObjectState state) {
  return state != ObjectState::kOnDisk && state != ObjectState::kDeleted;
}

constexpr bool IsSealed(ObjectState state) {
  return state != ObjectState::kWriting && state != ObjectState::kDeleted;
}

constexpr bool IsReadable(ObjectState state) {
  return state == ObjectState::kInMemory || state == ObjectState::kSpilling;
}

}  // namespace ray::store
