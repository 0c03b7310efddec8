// raylet: the daemon of a node. Serves the node's drivers and workers; one a node.
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

// Abseil's library tells a boolean flag (--head without a value) by the address of a variable of
// this template, which must therefore be the same here and there.
#pragma GCC visibility push(default)
#include "absl/base/internal/fast_type_id.h"
#pragma GCC visibility pop

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "ray/base/lock_order.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/gcs_client.h"
#include "ray/net/daemon_process.h"
#include "ray/net/tls_credentials.h"
#include "ray/raylet/machine.h"
#include "ray/raylet/node_setup.h"
#include "ray/raylet/raylet.h"
#include "ray/raylet/spill_record.h"

ABSL_FLAG(std::string, gcs_address, "",
          "Where the GCS listens: unix:PATH or tcp:HOST:PORT. Required.");
ABSL_FLAG(std::string, listen, "",
          "Where to listen for this node's drivers and workers: unix:PATH, in a folder that only "
          "its user may enter. Required.");
ABSL_FLAG(
    std::string, listen_tcp, "",
    "Where to listen for other nodes' raylets: tcp:HOST:PORT, port 0 to have one chosen. Core "
    "workers listen on the same host. An address that other machines can reach needs a token. "
    "Empty: this node is alone.");
ABSL_FLAG(std::string, session_dir, "",
          "Folder of the session; logs go to logs/ in it, spilled objects to spill/. Required.");
ABSL_FLAG(std::string, node_ip, "127.0.0.1", "Address under which other nodes reach this one.");
ABSL_FLAG(bool, head, false, "This is the cluster's head node.");
ABSL_FLAG(double, num_cpus, -1,
          "CPUs that the node offers. Negative: those that this process may use.");
ABSL_FLAG(double, num_gpus, -1, "GPUs that the node offers. -1: those found.");
ABSL_FLAG(int64_t, memory, -1,
          "Bytes of memory that the node offers to tasks and actors. Negative: the machine's, less "
          "the object store.");
ABSL_FLAG(int64_t, object_store_memory, -1,
          "Bytes of shared memory of the object store. Negative: a fraction of the machine's "
          "memory (object_store_memory_fraction).");
ABSL_FLAG(std::string, resources, "{}",
          "Custom resources that the node offers: a JSON object of name to number.");
ABSL_FLAG(std::string, labels, "{}", "Labels of the node: a JSON object of name to text.");
ABSL_FLAG(std::string, token_file, "",
          "File with the cluster's token, which the GCS asks for. Empty: it asks for none.");
ABSL_FLAG(
    std::string, tls_cert_file, "",
    "File (PEM) with this node's certificate, for TLS to the GCS and other nodes over TCP. With "
    "--tls_key_file and --tls_ca_file; none of them: RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY "
    "and RAY_TLS_CA_CERT if RAY_USE_TLS is 1, else no TLS.");
ABSL_FLAG(std::string, tls_key_file, "", "File (PEM) with the key of that certificate.");
ABSL_FLAG(std::string, tls_ca_file, "",
          "File (PEM) with the certificate of the authority that has signed those of all nodes.");
ABSL_FLAG(int, gcs_pid, 0,
          "Process id of the cluster's gcs_server, which this node keeps alive. Needs "
          "--gcs_command.");
ABSL_FLAG(
    std::string, gcs_command, "",
    "Command that starts gcs_server again, on the same address and storage, when that process "
    "is gone; words as in a shell. Empty: nobody does.");
ABSL_FLAG(std::string, zygote_command, "python3 -m ray._zygote",
          "Command that runs the zygote, which forks workers; words as in a shell.");
ABSL_FLAG(
    std::string, object_spilling_config, "",
    "Where to spill objects: {\"type\": \"filesystem\", \"params\": {\"directory_path\": ...}} or "
    "{\"type\": \"smart_open\", \"params\": {\"uri\": ...}}. Empty: what the environment's "
    "RAY_object_spilling_config says, else what the head's does, else spill/ in --session_dir.");
ABSL_FLAG(std::string, spill_worker_command, "python3 -m ray._spill_worker",
          "Command that runs the process which reaches a URI to spill to.");
ABSL_FLAG(std::string, log_file, "", "File to log to; it is rotated. Empty: standard error.");
ABSL_FLAG(std::string, log_level, "",
          "debug, info, warning or error. Empty: the log_level of the configuration.");
ABSL_FLAG(int, ready_fd, -1,
          "Descriptor that gets one line of JSON, {\"endpoint\": ..., \"node_id\": ..., \"pid\": "
          "...} once clients are served or {\"error\": \"...\"}, and is closed then.");
ABSL_FLAG(int, lifeline_fd, -1,
          "Descriptor of a pipe or socket: when its other end closes, the node ends. So a local "
          "cluster ends with its driver, however that dies.");
ABSL_FLAG(std::string, config, "",
          "Settings, name=value, separated by commas. They win over the environment's RAY_<name>.");

namespace ray::raylet {
namespace {

using Json = nlohmann::json;

void SayReady(const Json& message) {
  net::SayReady(absl::GetFlag(FLAGS_ready_fd),
                message.dump(-1, ' ', false, Json::error_handler_t::replace));
}

template <typename T>
std::optional<T> UnlessNegative(T value) {
  return value < 0 ? std::nullopt : std::optional<T>(value);
}

absl::Status CheckRequired() {
  const std::string listen = absl::GetFlag(FLAGS_listen);
  if (listen.rfind("unix:", 0) != 0) {
    return absl::InvalidArgumentError("--listen must be unix:PATH");
  }
  if (absl::GetFlag(FLAGS_gcs_address).empty() || absl::GetFlag(FLAGS_session_dir).empty()) {
    return absl::InvalidArgumentError("--gcs_address and --session_dir are required");
  }
  const std::string logs = absl::StrCat(absl::GetFlag(FLAGS_session_dir), "/logs");
  if (mkdir(logs.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::InvalidArgumentError(absl::StrCat("cannot make the folder ", logs));
  }
  return absl::OkStatus();
}

absl::StatusOr<SpillSetup> ReadSpilling() {
  std::string text = absl::GetFlag(FLAGS_object_spilling_config);
  const char* from_environment = std::getenv("RAY_object_spilling_config");
  if (text.empty() && from_environment != nullptr) text = from_environment;
  MANTA_ASSIGN_OR_RETURN(SpillSetup setup, ParseSpillSetup(text));
  MANTA_ASSIGN_OR_RETURN(setup.worker_command,
                         SplitCommand(absl::GetFlag(FLAGS_spill_worker_command)));
  return setup;
}

absl::StatusOr<Raylet::Options> ReadOptions() {
  MANTA_RETURN_IF_ERROR(CheckRequired());
  Raylet::Options options;
  MANTA_ASSIGN_OR_RETURN(options.config, net::ReadConfig(absl::GetFlag(FLAGS_config)));
  MANTA_ASSIGN_OR_RETURN(options.gcs_token, net::ReadToken(absl::GetFlag(FLAGS_token_file)));
  MANTA_ASSIGN_OR_RETURN(options.tls,
                         net::ReadTlsCredentials({.certificate = absl::GetFlag(FLAGS_tls_cert_file),
                                                  .key = absl::GetFlag(FLAGS_tls_key_file),
                                                  .authority = absl::GetFlag(FLAGS_tls_ca_file)}));
  MANTA_ASSIGN_OR_RETURN(options.zygote_command, SplitCommand(absl::GetFlag(FLAGS_zygote_command)));
  options.gcs_pid = absl::GetFlag(FLAGS_gcs_pid);
  if (options.gcs_pid > 0) {
    MANTA_ASSIGN_OR_RETURN(options.gcs_command, SplitCommand(absl::GetFlag(FLAGS_gcs_command)));
  }
  MANTA_ASSIGN_OR_RETURN(options.spilling, ReadSpilling());
  const Machine machine = InspectMachine();
  options.accelerators = accelerators::NodeAccelerators::Detect(accelerators::Host::Current());
  MANTA_ASSIGN_OR_RETURN(
      NodeSetup setup,
      SetUpNode({.num_cpus = UnlessNegative(absl::GetFlag(FLAGS_num_cpus)),
                 .num_gpus = UnlessNegative(absl::GetFlag(FLAGS_num_gpus)),
                 .memory = UnlessNegative(absl::GetFlag(FLAGS_memory)),
                 .object_store_memory = UnlessNegative(absl::GetFlag(FLAGS_object_store_memory)),
                 .resources = absl::GetFlag(FLAGS_resources),
                 .labels = absl::GetFlag(FLAGS_labels),
                 .node_ip = absl::GetFlag(FLAGS_node_ip),
                 .is_head = absl::GetFlag(FLAGS_head)},
                options.config, machine, options.accelerators));
  options.resources = std::move(setup.resources);
  options.object_store_bytes = setup.object_store_bytes;
  options.identity = {.id = base::NodeId::Random(),
                      .ip = absl::GetFlag(FLAGS_node_ip),
                      .hostname = machine.hostname,
                      .endpoint = absl::GetFlag(FLAGS_listen),
                      .tcp_endpoint = absl::GetFlag(FLAGS_listen_tcp),
                      .session_dir = absl::GetFlag(FLAGS_session_dir),
                      .gcs_address = absl::GetFlag(FLAGS_gcs_address),
                      .is_head = absl::GetFlag(FLAGS_head),
                      .labels = std::move(setup.labels)};
  return options;
}

void StartLogging(const base::Config& config) {
  const std::string level = absl::GetFlag(FLAGS_log_level);
  base::InitLogging({.process_name = "raylet",
                     .file = absl::GetFlag(FLAGS_log_file),
                     .level = level.empty() ? config.log_level : level,
                     .rotate_bytes = static_cast<size_t>(config.log_rotate_bytes)});
}

// The node's life: from the start until a signal, the broken lifeline or the GCS ends it. OK: it
// was told to end.
class Node {
 public:
  absl::Status Run() {
    net::EndOnSignals(&loop_, [this] { End(absl::OkStatus()); });
    net::EndWithLifeline(&loop_, absl::GetFlag(FLAGS_lifeline_fd),
                         [this] { End(absl::OkStatus()); });
    MANTA_ASSIGN_OR_RETURN(Raylet::Options options, ReadOptions());
    StartLogging(options.config);
    for (const std::string& warning : options.accelerators.warnings()) {
      MANTA_LOG(kWarning, warning);
    }
    const absl::Duration start_timeout = absl::Milliseconds(options.config.gcs_rpc_timeout_ms);
    const std::string gcs_address = options.identity.gcs_address;
    if (!options.identity.is_head) {
      MANTA_RETURN_IF_ERROR(TakeOverSpilling(&options));
      if (ended_) return result_;
    }
    MANTA_ASSIGN_OR_RETURN(
        raylet_, Raylet::Create(&loop_, base::RealClock::Get(), std::move(options),
                                {.on_ready = [this] { OnReady(); },
                                 .on_fatal = [this](const absl::Status& why) { End(why); },
                                 .on_drained = [this] { End(absl::OkStatus()); }}));
    start_timer_ =
        loop_.RunAfter(start_timeout, [this, gcs_address] { End(DidNotAnswer(gcs_address)); });
    raylet_->Start();
    loop_.Run();
    raylet_->Stop();
    return result_;
  }

  bool said_ready() const { return said_ready_; }

 private:
  // Blocks until the GCS has said how the head spills, for gcs_rpc_timeout_ms at most. What else is
  // wrong with the GCS is for the registration to find.
  absl::Status TakeOverSpilling(Raylet::Options* options) {
    gcs::GcsClient client(
        &loop_,
        {.address = options->identity.gcs_address,
         .token = options->gcs_token,
         .tls = options->tls,
         .rpc_timeout = absl::Milliseconds(options->config.gcs_rpc_timeout_ms),
         .reconnect_interval = absl::Milliseconds(options->config.gcs_reconnect_interval_ms)},
        {});
    std::optional<absl::StatusOr<wire::v1::KvReply>> answer;
    client.Kv(ReadSpillRecord(),
              [&answer](absl::StatusOr<wire::v1::KvReply> reply) { answer = std::move(reply); });
    while (!answer.has_value() && !ended_) loop_.Poll(absl::Seconds(1));
    if (ended_) return absl::OkStatus();
    const absl::Status& status = answer->status();
    if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
      return DidNotAnswer(options->identity.gcs_address);
    }
    if (!status.ok() || !(*answer)->found()) return absl::OkStatus();
    return TakeOver((*answer)->value(), &options->spilling, &options->config);
  }

  static absl::Status DidNotAnswer(const std::string& gcs_address) {
    return absl::DeadlineExceededError(absl::StrCat("the GCS at ", gcs_address, " did not answer"));
  }

  void OnReady() {
    loop_.Cancel(start_timer_);
    SayReady({{"endpoint", raylet_->identity().endpoint},
              {"node_id", raylet_->identity().id.Hex()},
              {"pid", getpid()}});
    said_ready_ = true;
  }

  void End(const absl::Status& why) {
    result_ = why;
    ended_ = true;
    loop_.Stop();
  }

  net::EventLoop loop_;
  std::unique_ptr<Raylet> raylet_;
  net::EventLoop::TimerId start_timer_ = 0;
  bool said_ready_ = false;
  bool ended_ = false;
  absl::Status result_;
};

int Main() {
  // Not destroyed: what matters is gone after Run, and the process ends without waiting for threads
  // of libraries.
  auto* node = new Node();
  const absl::Status status = node->Run();
  if (!status.ok()) {
    MANTA_LOG(kError, status.message());
    std::cerr << "raylet: " << status.message() << std::endl;
    if (!node->said_ready()) SayReady({{"error", std::string(status.message())}});
  }
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace ray::raylet

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "The daemon of a node: leases workers to drivers and workers, keeps the object store, runs "
      "actors, and connects the node to the GCS.\n"
      "  raylet --gcs_address=unix:/tmp/s/gcs --listen=unix:/tmp/s/raylet --session_dir=/tmp/s");
  absl::ParseCommandLine(argc, argv);
  ray::base::StopCheckingLockOrder();
  const int code = ray::raylet::Main();
  std::fflush(nullptr);
  _exit(code);
}
