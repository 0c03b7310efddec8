#include "tests/sim/cluster/cluster.h"

#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "tests/sim/cluster/worker.h"
#include "tests/sim/world/workers.h"

namespace ray::sim {

using resources::ResourceSet;

namespace {

constexpr size_t kGcsMachine = 1'000'000;
constexpr uint64_t kStoreBytes = 1 << 20;
// More than this without an end is a hang.
constexpr absl::Duration kLongest = absl::Minutes(4);
constexpr absl::Duration kUntilQuiet = absl::Minutes(2);
constexpr double kRepeatedRequests = 0.02;

std::string HostOf(size_t machine) { return absl::StrCat("10.0.0.", machine); }

}  // namespace

base::Config VirtualCluster::ConfigOf(const Options& options) {
  base::Config config;
  // One flag only: protobuf orders several of them by chance, which the memory of the processes
  // would show.
  config.memory_monitor_refresh_ms = 0;
  for (const auto& [name, value] : options.flags) MANTA_CHECK(config.Set(name, value).ok());
  return config;
}

VirtualCluster::VirtualCluster(Options options)
    : options_(std::move(options)),
      config_(ConfigOf(options_)),
      world_(options_.seed),
      nodes_(options_.nodes),
      drivers_(options_.drivers) {
  world_.peer_timeout = absl::Milliseconds(config_.node_dead_timeout_ms);
  SetWorkerMain([this](uint64_t token, const std::map<std::string, std::string>& environment) {
    auto* worker = new VirtualWorker(&ledger_, [this](Process* process, const Session& session) {
      OnSession(process, session);
    });
    worker->Main(token, environment);
  });
}

ResourceSet VirtualCluster::TotalOf(size_t index) const {
  ResourceSet total{{"CPU", index == 0 ? 4.0 : 1.0 + static_cast<double>(index % 4)}};
  // Enough for all actors at once: programs that hold some and wait for others wait for ever.
  total += ResourceSet{{"slot", 10.0}};
  if (index % 3 == 0) total += ResourceSet{{"gold", 1.0}};
  return total;
}

// --- Its processes

void VirtualCluster::StartGcs() {
  gcs_ = nullptr;
  gcs_process_ = world_.Start(kGcsMachine, "gcs", nullptr, [this] {
    gcs_ = new VirtualGcs(config_, &storage_, options_.faults ? kRepeatedRequests : 0);
  });
  gcs_process_->on_end = [this] {
    ++outcome_.gcs_deaths;
    world_.After(world_.Between(absl::Milliseconds(20), absl::Milliseconds(700)), nullptr,
                 [this] { StartGcs(); });
  };
}

void VirtualCluster::StartNode(size_t index) {
  Node& node = nodes_[index];
  node = {};
  node.machine = ++last_machine_;
  node.process = world_.Start(node.machine, "raylet", nullptr, [this, index] {
    Node& node = nodes_[index];
    node.loop = new net::EventLoop();
    raylet::Raylet::Options options;
    options.identity.id = base::NodeId::Random();
    options.identity.ip = HostOf(node.machine);
    options.identity.hostname = options.identity.ip;
    options.identity.endpoint = absl::StrCat("unix:/", node.machine, "/raylet");
    options.identity.tcp_endpoint = absl::StrCat("tcp:", HostOf(node.machine), ":0");
    options.identity.session_dir = "/nonexistent";
    options.identity.gcs_address = VirtualGcs::kEndpoint;
    options.config = config_;
    options.resources = TotalOf(index);
    options.object_store_bytes = kStoreBytes;
    options.gcs_token = "token";
    ledger_.AddNode(options.identity.id, options.resources);
    auto made = raylet::Raylet::Create(node.loop, base::RealClock::Get(), std::move(options),
                                       {.on_ready = [] {},
                                        .on_fatal = [](const absl::Status&) { _exit(1); },
                                        .on_drained =
                                            [this, index] {
                                              Node& left = nodes_[index];
                                              left.leaving = true;
                                              world_.Spawn(left.process, [&left] {
                                                left.raylet->Stop();
                                                _exit(0);
                                              });
                                            }});
    MANTA_CHECK(made.ok());
    node.raylet = made->release();
    node.raylet->Start();
    checks_[node.process] = [raylet = node.raylet] { raylet->CheckInvariants(); };
  });
  node.process->on_end = [this, index] {
    ++outcome_.node_deaths;
    ReplaceLater(index);
  };
}

void VirtualCluster::ReplaceLater(size_t index) {
  world_.After(world_.Between(absl::Milliseconds(200), absl::Seconds(4)), nullptr,
               [this, index] { StartNode(index); });
}

void VirtualCluster::StartDriver(size_t index) {
  Driver& driver = drivers_[index];
  const size_t machine = nodes_[index % nodes_.size()].machine;
  driver.process = world_.Start(machine, "driver", nullptr, [this, index, machine] {
    VirtualDriver::Options options;
    options.raylet_endpoint = absl::StrCat("unix:/", machine, "/raylet");
    options.listen_host = HostOf(machine);
    options.calls = options_.calls;
    options.faults = options_.faults;
    options.program = options_.program;
    options.time_max = options_.task_time_max;
    options.on_session = [this](Process* process, const Session& session) {
      OnSession(process, session);
    };
    drivers_[index].program = new VirtualDriver(std::move(options));
    drivers_[index].program->Main();
    world_.Exit(0);
  });
}

void VirtualCluster::OnSession(Process* process, const Session& session) {
  checks_[process] = [session = session.get()] {
    if (!session->is_shut_down()) session->CheckInvariants();
  };
}

// --- Faults

void VirtualCluster::PlanFaults(absl::Duration span) {
  auto at_random = [&](std::function<void()> run) {
    world_.After(world_.Between(absl::Milliseconds(100), span), nullptr,
                 [run = std::move(run)] { run(); });
  };
  const auto times = [this](uint64_t most) { return world_.Any(most + 1); };
  for (uint64_t i = times(8); i > 0; --i) at_random([this] { KillSomeWorker(); });
  for (uint64_t i = times(3); i > 0; --i) {
    at_random([this] { KillRaylet(1 + world_.Any(nodes_.size() - 1), world_.Chance(0.5)); });
  }
  for (uint64_t i = times(3); i > 0; --i) at_random([this] { KillGcs(); });
  for (uint64_t i = times(3); i > 0; --i) at_random([this] { CutOffSome(); });
  for (uint64_t i = times(world_.Chance(0.5) ? 4 : 40); i > 0; --i) {
    at_random([this] {
      std::vector<Socket*> sockets = world_.OpenSockets();
      // A Unix socket breaks with a process only.
      std::erase_if(sockets, [](const Socket* socket) {
        return socket->process->machine == socket->peer->process->machine;
      });
      if (!sockets.empty()) world_.Break(sockets[world_.Any(sockets.size())]);
    });
  }
  if (times(2) == 0) {
    at_random([this] { DrainOne(1 + world_.Any(nodes_.size() - 1)); });
  }
  for (size_t i = 1; i < drivers_.size(); ++i) {
    if (times(3) > 0) continue;
    at_random([this, i] {
      if (drivers_[i].process != nullptr) world_.Kill(drivers_[i].process, 9);
    });
  }
}

void VirtualCluster::KillSomeWorker() {
  std::vector<Process*> workers;
  for (const Node& node : nodes_) {
    if (!node.alive()) continue;
    for (Process* child : node.process->children) {
      if (child->alive) workers.push_back(child);
    }
  }
  if (workers.empty()) return;
  ++outcome_.worker_deaths;
  world_.Kill(workers[world_.Any(workers.size())], 9);
}

void VirtualCluster::KillRaylet(size_t index, bool with_machine) {
  Node& node = nodes_[index];
  if (!node.alive()) return;
  if (with_machine) {
    world_.Vanish(node.machine);
    for (Driver& driver : drivers_) {
      if (driver.process != nullptr && driver.process->machine == node.machine) {
        driver.process = nullptr;
      }
    }
  } else {
    world_.Kill(node.process, 9);
  }
}

void VirtualCluster::KillGcs() {
  if (!gcs_process_->alive) return;
  if (world_.Chance(0.5)) return world_.Kill(gcs_process_, 9);
  storage_.last_write = storage_.writes + 1 + world_.Any(5);
}

// All of them for less than breaks a connection; or not the first node, whose driver must live, and
// perhaps until the others are declared dead.
void VirtualCluster::CutOffSome() {
  ++outcome_.cuts;
  const bool short_one = world_.Chance(0.6);
  std::set<size_t> machines;
  for (size_t i = short_one ? 0 : 1; i < nodes_.size(); ++i) {
    if (world_.Chance(0.4)) machines.insert(nodes_[i].machine);
  }
  world_.CutOff(machines, short_one ? world_.Between(absl::Milliseconds(10), absl::Seconds(1))
                                    : world_.Between(absl::Seconds(1), absl::Seconds(15)));
}

void VirtualCluster::DrainOne(size_t index) {
  const Node& node = nodes_[index];
  if (!node.alive() || node.raylet == nullptr || !gcs_process_->alive || gcs_ == nullptr) return;
  wire::v1::DrainNode order;
  order.set_node_id(node.raylet->identity().id.BinaryString());
  order.set_reason("test");
  world_.After(absl::ZeroDuration(), gcs_process_,
               [this, order] { gcs_->control().DrainNode(order).IgnoreError(); });
}

// --- The run

void VirtualCluster::Step() {
  MANTA_CHECK(world_.Step());
  Process* process = world_.last_process();
  if (process == nullptr || world_.events() % options_.check_every != 0) return;
  auto check = checks_.find(process);
  if (check == checks_.end()) return;
  if (!process->alive) {
    checks_.erase(check);
  } else {
    check->second();
  }
}

bool VirtualCluster::DriversAreDone() const {
  return std::all_of(drivers_.begin(), drivers_.end(), [](const Driver& driver) {
    return driver.process == nullptr || !driver.process->alive;
  });
}

// Time passes although nothing happens.
void VirtualCluster::PassTime() {
  world_.After(absl::Milliseconds(100), nullptr, [this] { PassTime(); });
}

void VirtualCluster::ReportHang() {
  std::string what = "the cluster hangs:";
  for (const Driver& driver : drivers_) {
    if (driver.process == nullptr || !driver.process->alive) continue;
    world_.Spawn(driver.process, [&what, program = driver.program] {
      absl::StrAppend(&what, " a driver is ", program->Describe(), ";");
    });
  }
  const absl::Time until = world_.now() + absl::Seconds(10);
  while (world_.now() < until) Step();
  MANTA_CHECK_MSG(false, what);
}

VirtualCluster::Outcome VirtualCluster::Run() {
  const absl::Time start = world_.now();
  PassTime();
  StartGcs();
  for (size_t i = 0; i < nodes_.size(); ++i) StartNode(i);
  while (world_.now() < start + absl::Milliseconds(300)) Step();
  for (size_t i = 0; i < drivers_.size(); ++i) StartDriver(i);
  if (options_.faults) PlanFaults(absl::Seconds(12));
  while (!DriversAreDone()) {
    Step();
    if (world_.now() - start < kLongest) continue;
    ReportHang();
  }
  outcome_.virtual_seconds = absl::ToDoubleSeconds(world_.now() - start);
  for (const Driver& driver : drivers_) {
    if (driver.program == nullptr) continue;
    const VirtualDriver::Counts& counts = driver.program->counts();
    outcome_.right += counts.right;
    outcome_.failed += counts.failed;
    outcome_.actors += counts.actors;
    outcome_.groups += counts.groups;
  }
  MANTA_CHECK_MSG(drivers_[0].program->finished(), "the first driver did not finish");
  CheckQuiet();
  outcome_.events = world_.events();
  outcome_.trace = world_.trace();
  return outcome_;
}

void VirtualCluster::CheckQuiet() {
  const absl::Time deadline = world_.now() + kUntilQuiet;
  absl::Time next = world_.now() + absl::Seconds(20);  // the last faults are over
  std::string why;
  while (true) {
    while (world_.now() < next) Step();
    why = WhyNotQuiet();
    if (why.empty()) return;
    MANTA_CHECK_MSG(world_.now() < deadline, absl::StrCat("the cluster is not quiet: ", why));
    next = world_.now() + absl::Seconds(1);
  }
}

// "": it is. As the GCS sees it, and as the nodes do.
std::string VirtualCluster::WhyNotQuiet() {
  if (!gcs_process_->alive || gcs_ == nullptr) return "the GCS is away";
  gcs::ControlPlane& control = gcs_->control();
  // First who may use something, the last of them first, then what is in use.
  const auto jobs = control.ListJobs({});
  for (const gcs::v1::JobState& job : jobs->jobs()) {
    if (!job.finished())
      return absl::StrCat("job ", base::BytesToHex(job.job_id()), " of nobody runs");
  }
  const auto groups = control.ListPlacementGroups({});
  for (const wire::v1::PlacementGroupInfo& group : groups->groups()) {
    if (group.state() == wire::v1::GROUP_STATE_REMOVED) continue;
    return absl::StrCat("placement group ", base::BytesToHex(group.spec().placement_group_id()),
                        " of nobody is there");
  }
  const auto actors = control.ListActors({});
  for (const wire::v1::ActorInfo& actor : actors->actors()) {
    if (actor.state() == wire::v1::DEAD) continue;
    return absl::StrCat("actor ", base::BytesToHex(actor.actor_id()), " of nobody lives");
  }
  const auto state = control.ClusterState({});
  size_t alive = 0;
  for (const wire::v1::NodeState& seen : state->nodes()) {
    if (!seen.alive()) continue;
    ++alive;
    const auto node = std::find_if(nodes_.begin(), nodes_.end(), [&](const Node& candidate) {
      return candidate.alive() && candidate.raylet != nullptr &&
             candidate.raylet->identity().id.Binary() == seen.node_id();
    });
    if (node == nodes_.end()) return "the GCS takes a dead node for alive";
    const wire::v1::NodeState now = node->raylet->State();
    const auto total = ResourceSet::FromWire(now.total());
    const auto available = ResourceSet::FromWire(now.available());
    const std::string name = absl::StrCat("node ", node->machine);
    if (*available != *total) {
      return absl::StrCat(name, " has ", available->ToString(), " of ", total->ToString());
    }
    if (*ResourceSet::FromWire(seen.available()) != *total) {
      return absl::StrCat("the GCS does not know what is free at ", name);
    }
    if (now.store_used_bytes() != 0 || now.spilled_bytes() != 0) {
      return absl::StrCat(name, " stores ", now.store_used_bytes(), " bytes for nobody, and ",
                          now.spilled_bytes(), " spilled");
    }
    if (!now.demands().empty()) return absl::StrCat("something waits at ", name);
  }
  if (alive != nodes_.size()) return "a node is missing";
  return "";
}

}  // namespace ray::sim
