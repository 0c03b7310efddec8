#include "tests/sim/cluster/seed_runner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/lock_order.h"
#include "ray/base/logging.h"

// The linker's, around this program's code.
extern "C" const char __executable_start;
extern "C" const char etext;

namespace ray::sim {
namespace {

// Of real time, for one run: a small one, and what many tasks on many nodes take besides.
constexpr unsigned kSecondsMax = 280;
constexpr unsigned kTasksTimesNodesPerSecond = 20'000;

int g_runner = -1;

VirtualCluster::Options OptionsOf(const SeedRequest& request) {
  std::mt19937_64 random(request.seed * 7919);
  VirtualCluster::Options options;
  options.seed = request.seed;
  if (request.nodes > 0) {
    options.nodes = request.nodes;
    options.drivers = request.drivers;
    options.calls = request.calls;
    options.faults = false;
    options.program = request.program;
    if (request.program != Program::kManyTasks) return options;
    options.task_time_max = absl::Seconds(2);
    options.check_every = 20'000;
    // Each report of a node goes to all others.
    options.flags = {{"node_report_interval_ms", "5000"}};
    return options;
  }
  options.nodes = 2 + random() % 4;
  options.drivers = 1 + random() % 3;
  options.calls = 20 + random() % 60;
  options.faults = random() % 6 != 0;
  options.task_time_max = absl::Milliseconds(random() % 2 == 0 ? 20 : 400);
  return options;
}

#if defined(__x86_64__)
// protobuf walks its maps in an order that the processor's clock decides; here that counts how
// often it is read.
void ReadClock(int signal, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* code = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  const bool rdtsc = code[0] == 0x0f && code[1] == 0x31;
  const bool rdtscp = code[0] == 0x0f && code[1] == 0x01 && code[2] == 0xf9;
  if (!rdtsc && !rdtscp) {
    ::signal(signal, SIG_DFL);
    return;
  }
  // The kernel's own code reads it as often as it happens to; that must not count for ours.
  static greg_t ours = 0;
  static greg_t others = 0;
  const bool is_ours = code >= reinterpret_cast<const uint8_t*>(&__executable_start) &&
                       code < reinterpret_cast<const uint8_t*>(&etext);
  registers[REG_RAX] = (is_ours ? ours : others) += 1000;
  registers[REG_RDX] = 0;
  if (rdtscp) registers[REG_RCX] = 0;
  registers[REG_RIP] += rdtsc ? 2 : 3;
}

void CountClockReads() {
  struct sigaction action {};
  action.sa_sigaction = ReadClock;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
}
#else
void CountClockReads() {}
#endif

[[noreturn]] void EndProcess(int code) {
  syscall(SYS_exit_group, code);
  abort();
}

// Forks a process for each request, and passes on what it answers.
[[noreturn]] void Serve(int socket) {
  SeedRequest request;
  while (read(socket, &request, sizeof request) == sizeof request) {
    int ends[2];
    MANTA_CHECK(pipe(ends) == 0);
    const pid_t child = static_cast<pid_t>(fork());
    MANTA_CHECK(child >= 0);
    if (child == 0) {
      // A run that turns in circles at one point of time.
      alarm(kSecondsMax + static_cast<unsigned>(request.nodes * request.drivers * request.calls /
                                                kTasksTimesNodesPerSecond));
      CountClockReads();
      auto* cluster = new VirtualCluster(OptionsOf(request));
      const VirtualCluster::Outcome outcome = cluster->Run();
      MANTA_CHECK(write(ends[1], &outcome, sizeof outcome) == sizeof outcome);
      EndProcess(0);
    }
    close(ends[1]);
    VirtualCluster::Outcome outcome;
    bool ok = read(ends[0], &outcome, sizeof outcome) == sizeof outcome;
    close(ends[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    ok = ok && status == 0;
    MANTA_CHECK(write(socket, &ok, sizeof ok) == sizeof ok);
    MANTA_CHECK(write(socket, &outcome, sizeof outcome) == sizeof outcome);
  }
  EndProcess(0);
}

// What the process that runs the seeds is called: by its arguments it knows what it is.
constexpr char kRunner[] = "seed_runner";
constexpr int kRunnerSocket = 3;

// What is kept of the environment. The sanitizers' options are there in their builds only.
constexpr const char* kVariables[] = {"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS"};

// Arguments, environment and descriptors are of the same size whoever starts the test: they move
// the stack, and what is ordered by addresses with it. So who looks at a run sees the same one.
[[noreturn]] void BecomeRunner(int socket, const char* log_level) {
  MANTA_CHECK(dup2(socket, kRunnerSocket) == kRunnerSocket);
  close_range(kRunnerSocket + 1, ~0U, 0);
  char name[sizeof kRunner];
  std::strcpy(name, kRunner);
  std::string level = log_level;
  char* const arguments[] = {name, level.data(), nullptr};
  std::vector<std::string> kept = {
      absl::StrCat("MANTA_SIM_TRACE=", getenv("MANTA_SIM_TRACE") != nullptr)};
  for (const char* variable : kVariables) {
    if (const char* value = getenv(variable)) kept.push_back(absl::StrCat(variable, "=", value));
  }
  std::vector<char*> environment;
  for (std::string& setting : kept) environment.push_back(setting.data());
  environment.push_back(nullptr);
  execve("/proc/self/exe", arguments, environment.data());
  abort();
}

}  // namespace

void SeedRunner::Begin(char** argv) {
  const int before = personality(0xffffffff);
  if (before >= 0 && (before & ADDR_NO_RANDOMIZE) == 0 &&
      personality(static_cast<unsigned long>(before) | ADDR_NO_RANDOMIZE) >= 0) {
    execv("/proc/self/exe", argv);
  }
  // The locks of many processes, in one thread.
  base::StopCheckingLockOrder();
  if (std::strcmp(argv[0], kRunner) == 0) {
    base::InitLogging({.process_name = "sim", .level = argv[1]});
    Serve(kRunnerSocket);
  }
  // Each process of the world that maps its node's store has a descriptor of it.
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const char* level = getenv("MANTA_SIM_LOG");
  int ends[2];
  MANTA_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const pid_t runner = static_cast<pid_t>(fork());
  MANTA_CHECK(runner >= 0);
  if (runner == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    BecomeRunner(ends[1], level == nullptr ? "error" : level);
  }
  close(ends[1]);
  g_runner = ends[0];
}

bool SeedRunner::Run(const SeedRequest& request, VirtualCluster::Outcome* outcome) {
  MANTA_CHECK(write(g_runner, &request, sizeof request) == sizeof request);
  bool ok = false;
  MANTA_CHECK(read(g_runner, &ok, sizeof ok) == sizeof ok);
  MANTA_CHECK(read(g_runner, outcome, sizeof *outcome) == sizeof *outcome);
  return ok;
}

}  // namespace ray::sim
