// The states of an object in the store and the moves between them. docs/object_store.md draws the
// same table.
//
// Threads: immutable.
#pragma once

#include <cstdint>
#include <string_view>

namespace ray::store {

enum class ObjectState : uint8_t {
  kWriting,      // has memory; its creator fills it
  kWritingFile,  // has a file of its own instead, which its creator maps and fills
  kInMemory,     // sealed, readable; perhaps also on disk
  kInFile,       // sealed, readable; clients map its file, it has no memory
  kSpilling,     // sealed, readable; being written to disk
  kOnDisk,       // sealed, has no memory
  kRestoring,    // has memory that is being filled from disk
  kChecking,     // no memory to be had: clients are to map its spill file, which is being checked
  kDeleted,      // leaves the table
};
inline constexpr int kObjectStates = 9;

struct ObjectTransition {
  ObjectState from;
  ObjectState to;
};

inline constexpr ObjectTransition kObjectTransitions[] = {
    {ObjectState::kWriting, ObjectState::kInMemory},     // Seal
    {ObjectState::kWriting, ObjectState::kDeleted},      // Abort, or the creator died
    {ObjectState::kWritingFile, ObjectState::kInFile},   // Seal
    {ObjectState::kWritingFile, ObjectState::kDeleted},  // Abort, or the creator died
    {ObjectState::kInFile, ObjectState::kDeleted},       // freed, or a secondary copy evicted
    {ObjectState::kInMemory, ObjectState::kSpilling},    // memory is short, nobody reads it
    {ObjectState::kInMemory, ObjectState::kOnDisk},      // evicted, its bytes are on disk
    {ObjectState::kInMemory, ObjectState::kDeleted},     // freed, or a secondary copy evicted
    {ObjectState::kSpilling, ObjectState::kInMemory},    // written, or the write failed
    {ObjectState::kOnDisk, ObjectState::kRestoring},     // somebody wants to read it
    {ObjectState::kOnDisk, ObjectState::kDeleted},       // freed
    {ObjectState::kRestoring, ObjectState::kInMemory},   // read back
    {ObjectState::kRestoring, ObjectState::kDeleted},    // its spill file is broken
    {ObjectState::kOnDisk, ObjectState::kChecking},      // somebody wants to read it, no memory
    {ObjectState::kChecking, ObjectState::kInFile},      // it is intact
    {ObjectState::kChecking, ObjectState::kOnDisk},      // clients cannot map such a file
    {ObjectState::kChecking, ObjectState::kDeleted},     // it is broken
};

constexpr bool MayMove(ObjectState from, ObjectState to) {
  for (const ObjectTransition& transition : kObjectTransitions) {
    if (transition.from == from && transition.to == to) return true;
  }
  return false;
}

constexpr bool HasMemory(ObjectState state) {
  return state == ObjectState::kWriting || state == ObjectState::kInMemory ||
         state == ObjectState::kSpilling || state == ObjectState::kRestoring;
}

// Has bytes that clients reach, or will at once, in memory or in a file that they map.
constexpr bool IsPinnable(ObjectState state) {
  return state != ObjectState::kOnDisk && state != ObjectState::kDeleted;
}

constexpr bool IsWriting(ObjectState state) {
  return state == ObjectState::kWriting || state == ObjectState::kWritingFile;
}

constexpr bool IsSealed(ObjectState state) {
  return !IsWriting(state) && state != ObjectState::kDeleted;
}

// What Seal makes of a state in which the object is written.
constexpr ObjectState SealedState(ObjectState writing) {
  return writing == ObjectState::kWritingFile ? ObjectState::kInFile : ObjectState::kInMemory;
}

constexpr bool IsReadable(ObjectState state) {
  return state == ObjectState::kInMemory || state == ObjectState::kSpilling ||
         state == ObjectState::kInFile;
}

// Nobody writes it and no I/O uses it: without pins it may go.
constexpr bool IsResting(ObjectState state) {
  return state == ObjectState::kInMemory || state == ObjectState::kInFile ||
         state == ObjectState::kOnDisk;
}

}  // namespace ray::store
