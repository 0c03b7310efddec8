#include "ray/bindings/plain_pickle.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace ray::bindings {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr Py_ssize_t kElementsMax = 8;
// Longer lists are left to the pickler, which writes them in batches.
constexpr Py_ssize_t kNumbersMax = 1000;

// Opcodes of the pickle format.
constexpr char kProto[] = {'\x80', 5};
constexpr char kStop = '.';
constexpr char kMark = '(';
constexpr char kNone = 'N';
constexpr char kTrue = '\x88';
constexpr char kFalse = '\x89';
constexpr char kInt1 = 'K';     // unsigned
constexpr char kInt2 = 'M';     // unsigned
constexpr char kInt4 = 'J';     // signed
constexpr char kLong = '\x8a';  // one byte: how many follow
constexpr char kFloat = 'G';    // big endian
constexpr char kShortBytes = 'C';
constexpr char kBytes = 'B';
constexpr char kShortText = '\x8c';
constexpr char kText = 'X';
constexpr char kEmptyTuple = ')';
constexpr char kTuple1 = '\x85';  // and the next two opcodes: of two, of three elements
constexpr char kTuple = 't';
constexpr char kEmptyList = ']';
constexpr char kAppends = 'e';

template <typename T>
void Put(char opcode, T value, std::string* out) {
  char bytes[1 + sizeof value];
  bytes[0] = opcode;
  std::memcpy(bytes + 1, &value, sizeof value);
  out->append(bytes, sizeof bytes);
}

bool PutInt(PyObject* value, std::string* out) {
  int overflow = 0;
  const int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow != 0) return false;
  if (number >= 0 && number <= UINT8_MAX) {
    Put(kInt1, static_cast<uint8_t>(number), out);
  } else if (number >= 0 && number <= UINT16_MAX) {
    Put(kInt2, static_cast<uint16_t>(number), out);
  } else if (number >= INT32_MIN && number <= INT32_MAX) {
    Put(kInt4, static_cast<int32_t>(number), out);
  } else {
    out->push_back(kLong);
    Put(sizeof number, number, out);
  }
  return true;
}

// Exact types only: another one may pickle as it likes.
bool PutNumber(PyObject* value, std::string* out) {
  if (value == Py_None) {
    out->push_back(kNone);
  } else if (PyBool_Check(value)) {
    out->push_back(value == Py_True ? kTrue : kFalse);
  } else if (PyLong_CheckExact(value)) {
    return PutInt(value, out);
  } else if (PyFloat_CheckExact(value)) {
    Put(kFloat, __builtin_bswap64(std::bit_cast<uint64_t>(PyFloat_AS_DOUBLE(value))), out);
  } else {
    return false;
  }
  return true;
}

bool PutSized(char short_opcode, char opcode, std::string_view bytes, std::string* out) {
  if (bytes.size() > UINT32_MAX) return false;
  if (bytes.size() <= UINT8_MAX) {
    Put(short_opcode, static_cast<uint8_t>(bytes.size()), out);
  } else {
    Put(opcode, static_cast<uint32_t>(bytes.size()), out);
  }
  out->append(bytes);
  return true;
}

bool PutText(PyObject* value, std::string* out) {
  // Others would have to be encoded, and keep the result as long as they live.
  if (!PyUnicode_IS_COMPACT_ASCII(value)) return false;
  return PutSized(kShortText, kText,
                  {static_cast<const char*>(PyUnicode_DATA(value)),
                   static_cast<size_t>(PyUnicode_GET_LENGTH(value))},
                  out);
}

// Between the two the elements come.
void BeginTuple(Py_ssize_t size, std::string* out) {
  if (size > 3) out->push_back(kMark);
}
void EndTuple(Py_ssize_t size, std::string* out) {
  if (size == 0) return out->push_back(kEmptyTuple);
  out->push_back(size > 3 ? kTuple : static_cast<char>(kTuple1 + size - 1));
}

bool PutNumbers(PyObject* value, std::string* out) {
  const Py_ssize_t size = PySequence_Fast_GET_SIZE(value);
  if (size > kNumbersMax) return false;
  PyObject** items = PySequence_Fast_ITEMS(value);
  const auto put_all = [&] {
    for (Py_ssize_t i = 0; i < size; ++i) {
      if (!PutNumber(items[i], out)) return false;
    }
    return true;
  };
  if (PyTuple_CheckExact(value)) {
    BeginTuple(size, out);
    if (!put_all()) return false;
    EndTuple(size, out);
    return true;
  }
  out->push_back(kEmptyList);
  if (size == 0) return true;
  out->push_back(kMark);
  if (!put_all()) return false;
  out->push_back(kAppends);
  return true;
}

bool PutElement(PyObject* value, std::string* out) {
  if (PyBytes_CheckExact(value)) {
    return PutSized(kShortBytes, kBytes,
                    {PyBytes_AS_STRING(value), static_cast<size_t>(PyBytes_GET_SIZE(value))}, out);
  }
  if (PyUnicode_CheckExact(value)) return PutText(value, out);
  if (PyList_CheckExact(value) || PyTuple_CheckExact(value)) return PutNumbers(value, out);
  return PutNumber(value, out);
}

// Whether the element is one of those before it, and its identity may matter.
bool OccursBefore(PyObject* tuple, Py_ssize_t index) {
  PyObject* value = PyTuple_GET_ITEM(tuple, index);
  if (value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value)) return false;
  for (Py_ssize_t i = 0; i < index; ++i) {
    if (PyTuple_GET_ITEM(tuple, i) == value) return true;
  }
  return false;
}

bool PutValue(PyObject* value, std::string* out) {
  if (!PyTuple_CheckExact(value)) return PutElement(value, out);
  const Py_ssize_t size = PyTuple_GET_SIZE(value);
  if (size > kElementsMax) return false;
  BeginTuple(size, out);
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (OccursBefore(value, i) || !PutElement(PyTuple_GET_ITEM(value, i), out)) return false;
  }
  EndTuple(size, out);
  return true;
}

}  // namespace

bool WritePlainPickle(PyObject* value, std::string* out) {
  out->assign(kProto, sizeof kProto);
  if (!PutValue(value, out)) return false;
  out->push_back(kStop);
  return true;
}

}  // namespace ray::bindings
