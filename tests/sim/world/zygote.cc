// raylet/zygote.h in the virtual world: a fork is a process of the world.
#include "ray/raylet/zygote.h"

#include <utility>

#include "tests/sim/world/loops.h"
#include "tests/sim/world/workers.h"
#include "tests/sim/world/world.h"

namespace ray::sim {
namespace {

WorkerMain& Main() {
  static auto* main = new WorkerMain();
  return *main;
}

}  // namespace

void SetWorkerMain(WorkerMain main) { Main() = std::move(main); }

}  // namespace ray::sim

namespace ray::raylet {

using sim::Process;
using sim::World;

Zygote::Zygote(net::EventLoop* loop, Options options, Events events)
    : loop_(loop), options_(std::move(options)), events_(std::move(events)) {}

Zygote::~Zygote() = default;

void Zygote::Start() {}

void Zygote::Fork(StartupToken token, const std::map<std::string, std::string>& env,
                  std::string_view, std::string_view) {
  World* world = World::Current();
  Process* raylet = world->current();
  world->After(world->Between(absl::Milliseconds(1), absl::Milliseconds(40)), raylet,
               [this, world, raylet, token, env] {
                 Process* worker =
                     world->Start(raylet->machine, "worker", raylet, [world, token, env] {
                       sim::Main()(token, env);
                       world->Exit(0);
                     });
                 auto state = sim::StateOf(loop_);
                 RunOn(state, [this, token, pid = worker->pid] { events_.on_forked(token, pid); });
                 worker->on_end = [this, state, token, worker] {
                   RunOn(state, [this, token, worker] {
                     ExitStatus status;
                     if (worker->signal != 0) {
                       status.signal = worker->signal;
                     } else {
                       status.exit_code = worker->code;
                     }
                     events_.on_exited(token, status);
                   });
                 };
               });
}

void Zygote::Stop() {
  World* world = World::Current();
  for (Process* worker : world->current()->children) world->Kill(worker, 9);
}

}  // namespace ray::raylet
