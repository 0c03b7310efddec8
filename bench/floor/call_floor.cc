// The floor of a remote call: length-prefixed frames over a Unix socket pair, a caller that reads
// its own socket and a server that runs one Python function a frame. Both poll for a moment before
// they sleep in the kernel.
//
// There are no ids, ownership, scheduling or errors here, on purpose: it shows what the hardware
// and CPython allow, so that a runtime's figures can be read as a share of it.
// bench/measure_floor.py builds and runs it.
#include <poll.h>
#include <pybind11/pybind11.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace py = pybind11;

namespace {

constexpr int kPollsBeforeSleep = 200;
constexpr size_t kFlushAtBytes = 32 << 10;

struct Header {
  uint64_t id;
  uint64_t size_bytes;
};

struct Message {
  uint64_t id;
  std::string body;
};

class Channel {
 public:
  explicit Channel(int fd) : fd_(fd) {}

  void Write(uint64_t id, std::string_view body) {
    const Header header{id, body.size()};
    out_.append(reinterpret_cast<const char*>(&header), sizeof header);
    out_.append(body);
    if (out_.size() >= kFlushAtBytes) Flush();
  }

  void Flush() {
    for (size_t sent = 0; sent < out_.size();) {
      const ssize_t n = send(fd_, out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL);
      if (n < 0) throw std::runtime_error("send failed");
      sent += n;
    }
    out_.clear();
  }

  // A whole message that was received already.
  std::optional<Message> Next() {
    Header header;
    const size_t available = in_.size() - begin_;
    if (available < sizeof header) return std::nullopt;
    memcpy(&header, in_.data() + begin_, sizeof header);
    if (available < sizeof header + header.size_bytes) return std::nullopt;
    Message message{header.id, in_.substr(begin_ + sizeof header, header.size_bytes)};
    begin_ += sizeof header + header.size_bytes;
    return message;
  }

  // Waits for more bytes; false when the peer is gone. Call without the GIL.
  bool Receive() {
    if (begin_ == in_.size()) {
      in_.clear();
      begin_ = 0;
    }
    char buffer[64 << 10];
    for (int polls = 0;; ++polls) {
      const ssize_t n = recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (n > 0) in_.append(buffer, n);
      if (n >= 0) return n > 0;
      if (polls >= kPollsBeforeSleep) {
        pollfd readable{fd_, POLLIN, 0};
        poll(&readable, 1, -1);
      }
    }
  }

 private:
  const int fd_;
  std::string in_;  // received; what lies before begin_ is used up
  size_t begin_ = 0;
  std::string out_;
};

class Caller {
 public:
  explicit Caller(int fd) : channel_(fd) {}

  uint64_t Submit(const py::bytes& request) {
    channel_.Write(++last_id_, std::string_view(request));
    return last_id_;
  }

  py::bytes Get(uint64_t id) {
    channel_.Flush();
    for (;;) {
      if (auto reply = replies_.extract(id)) return py::bytes(reply.mapped());
      {
        py::gil_scoped_release no_gil;
        if (!channel_.Receive()) throw std::runtime_error("the server is gone");
      }
      while (auto message = channel_.Next()) {
        replies_.emplace(message->id, std::move(message->body));
      }
    }
  }

 private:
  Channel channel_;
  uint64_t last_id_ = 0;
  std::unordered_map<uint64_t, std::string> replies_;
};

// Answers requests with function(request) until the caller closes its end.
void Serve(int fd, const py::function& function) {
  Channel channel(fd);
  for (;;) {
    while (auto message = channel.Next()) {
      const py::bytes reply = function(py::bytes(message->body));
      channel.Write(message->id, std::string_view(reply));
    }
    channel.Flush();
    py::gil_scoped_release no_gil;
    if (!channel.Receive()) return;
  }
}

}  // namespace

PYBIND11_MODULE(call_floor, module) {
  py::class_<Caller>(module, "Caller")
      .def(py::init<int>())
      .def("submit", &Caller::Submit)
      .def("get", &Caller::Get);
  module.def("serve", &Serve);
}
