// Pickles (protocol 5) of what most arguments and results are, written without the pickler: one
// number, text or bytes, or a tuple of a few of them and of lists or tuples of numbers. Any
// unpickler makes of them what it would make of the pickler's.
//
// Nothing in them occurs twice but for what has no identity (numbers, None), so that what the
// pickler would say once and refer to is not an issue. Threads: with the GIL.
#pragma once

#include <Python.h>

#include <string>

namespace ray::bindings {

// Replaces `*out` by the pickle. False: `value` is something else, which the pickler has to write;
// `*out` means nothing then. Sets no Python error.
bool WritePlainPickle(PyObject* value, std::string* out);

}  // namespace ray::bindings
