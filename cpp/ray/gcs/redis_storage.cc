#include "ray/gcs/redis_storage.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/gcs/storage_holder.h"

namespace ray::gcs {
namespace {

using Command = RedisLink::Command;
using Reply = RedisLink::Reply;

// A look at one key costs one; a scan of a whole table asks for more and more at a time.
constexpr int kScanFirst = 1;
constexpr int kScanMax = 512;

constexpr absl::Duration kTakePause = absl::Milliseconds(100);

// KEYS: epoch, holder. ARGV: who takes it, for how many ms, a holder that is known to be gone.
// Answers with the new epoch, or the name of who holds it.
constexpr char kTake[] = R"(
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return holder end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return redis.call('INCR', KEYS[1])
)";

// KEYS: epoch, holder. ARGV: own epoch, own name, for how many ms; then the changes: "P", hash, set
// of keys, key, value, or "D", hash, set of keys, key. Answers with "", or with the name of who has
// taken it since. A server that has lost its data knows of no epoch, and perhaps of another holder.
constexpr char kWrite[] = R"(
local epoch = redis.call('GET', KEYS[1])
local holder = redis.call('GET', KEYS[2])
if epoch and epoch ~= ARGV[1] then return holder or 'another process, which has left' end
if holder and holder ~= ARGV[2] then return holder end
if not epoch then redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
local i = 4
while i <= #ARGV do
  if ARGV[i] == 'P' then
    redis.call('HSET', ARGV[i + 1], ARGV[i + 3], ARGV[i + 4])
    redis.call('ZADD', ARGV[i + 2], 0, ARGV[i + 3])
    i = i + 5
  else
    redis.call('HDEL', ARGV[i + 1], ARGV[i + 3])
    redis.call('ZREM', ARGV[i + 2], ARGV[i + 3])
    i = i + 4
  end
end
return ''
)";

// KEYS: holder. ARGV: own name.
constexpr char kGiveBack[] = R"(
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return ''
)";

std::string_view Text(const redisReply& reply) { return {reply.str, reply.len}; }

std::string Millis(absl::Duration duration) {
  return absl::StrCat(absl::ToInt64Milliseconds(duration));
}

RedisLink::Options LinkOptions(const RedisStorage::Options& options) {
  return {.host = options.host,
          .port = options.port,
          .password = options.password,
          .timeout = options.timeout};
}

RedisStorage::Options Complete(RedisStorage::Options options) {
  constexpr absl::Duration kLeaseMin = absl::Milliseconds(100);
  options.lease = std::max(options.lease, kLeaseMin);
  if (options.holder.empty()) options.holder = NewHolderName();
  return options;
}

}  // namespace

absl::StatusOr<RedisStorage::Options> RedisStorage::ParseUrl(std::string_view rest) {
  Options options;
  const size_t slash = rest.find('/');
  const std::string_view address = rest.substr(0, slash);
  const size_t colon = address.rfind(':');
  const bool has_prefix = slash != std::string_view::npos && slash + 1 < rest.size();
  const std::string_view port = colon == std::string_view::npos ? "" : address.substr(colon + 1);
  if (!has_prefix || colon == 0 ||
      !absl::SimpleAtoi(absl::string_view(port.data(), port.size()), &options.port) ||
      options.port <= 0 || options.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("'redis://",
                                                   absl::string_view(rest.data(), rest.size()),
                                                   "' is not redis://HOST:PORT/PREFIX"));
  }
  options.host = std::string(address.substr(0, colon));
  if (options.host.size() > 2 && options.host.front() == '[') {  // an IPv6 address
    options.host = options.host.substr(1, options.host.size() - 2);
  }
  options.prefix = std::string(rest.substr(slash + 1));
  if (const char* password = std::getenv("RAY_REDIS_PASSWORD"); password != nullptr) {
    options.password = password;
  }
  return options;
}

// --- Holding it

RedisStorage::RedisStorage(Options options)
    : options_(Complete(std::move(options))), link_(LinkOptions(options_)) {}

absl::StatusOr<std::unique_ptr<RedisStorage>> RedisStorage::Open(Options options) {
  std::unique_ptr<RedisStorage> storage(new RedisStorage(std::move(options)));
  MANTA_RETURN_IF_ERROR(storage->Take());
  try {
    storage->renewer_ = std::thread([storage = storage.get()] { storage->KeepRenewing(); });
  } catch (const std::system_error& error) {
    return absl::UnavailableError(absl::StrCat("no thread for the GCS storage: ", error.what()));
  }
  return storage;
}

RedisStorage::~RedisStorage() {
  if (!renewer_.joinable()) return;  // it was never taken
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    stop_.Signal();
  }
  renewer_.join();
  link_.Run({"EVAL", kGiveBack, "1", HolderKey(), options_.holder}).IgnoreError();
}

absl::Status RedisStorage::Take() {
  const absl::Time deadline = absl::Now() + options_.lease + 5 * kTakePause;
  std::string gone;
  while (true) {
    MANTA_ASSIGN_OR_RETURN(Reply reply, link_.Run({"EVAL", kTake, "2", EpochKey(), HolderKey(),
                                                   options_.holder, Millis(options_.lease), gone}));
    if (reply->type == REDIS_REPLY_INTEGER) {
      epoch_ = absl::StrCat(reply->integer);
      return absl::OkStatus();
    }
    const std::string holder(Text(*reply));
    if (holder != gone && IsGone(holder)) {
      gone = holder;
    } else if (absl::Now() < deadline) {
      absl::SleepFor(kTakePause);
    } else {
      return absl::UnavailableError(
          absl::StrCat("the GCS storage ", options_.prefix, " at ", options_.host, ":",
                       options_.port, " is in use by another gcs_server: ", DescribeHolder(holder),
                       ". Two cannot share it: end that one first, or use another prefix"));
    }
  }
}

absl::Status RedisStorage::Run(RedisLink* link, Command changes) {
  Command command = {"EVAL",
                     kWrite,
                     "2",
                     EpochKey(),
                     HolderKey(),
                     epoch_,
                     options_.holder,
                     Millis(options_.lease)};
  std::move(changes.begin(), changes.end(), std::back_inserter(command));
  MANTA_ASSIGN_OR_RETURN(Reply reply, link->Run(command));
  if (Text(*reply).empty()) return absl::OkStatus();
  const absl::Status lost = LostTo(DescribeHolder(Text(*reply)));
  SayLost(lost);
  return lost;
}

void RedisStorage::KeepRenewing() {
  RedisLink link(LinkOptions(options_));
  absl::MutexLock lock(&mutex_);
  while (!stopping_ && !lost_) {
    stop_.WaitWithTimeout(&mutex_, options_.lease / 4);
    if (stopping_) return;
    mutex_.Unlock();
    const absl::Status renewed = Run(&link, {});
    mutex_.Lock();
    // It may still be held when the server answers again.
    if (!renewed.ok() && !lost_) MANTA_LOG(kWarning, "GCS storage: ", renewed.message());
  }
}

void RedisStorage::OnLost(LostCallback callback) {
  {
    absl::MutexLock lock(&mutex_);
    on_lost_ = std::move(callback);
    if (!lost_) return;
  }
  SayLost(LostTo("another process"));
}

absl::Status RedisStorage::LostTo(const std::string& holder) const {
  return absl::UnavailableError(absl::StrCat("this gcs_server was taken for dead: the GCS storage ",
                                             options_.prefix, " is held by ", holder, " now"));
}

void RedisStorage::SayLost(const absl::Status& why) {
  LostCallback say;
  {
    absl::MutexLock lock(&mutex_);
    lost_ = true;
    say = std::exchange(on_lost_, nullptr);
  }
  if (say != nullptr) say(why);
}

std::string RedisStorage::EpochKey() const { return absl::StrCat(options_.prefix, ":#epoch"); }
std::string RedisStorage::HolderKey() const { return absl::StrCat(options_.prefix, ":#holder"); }

// --- Tables

std::string RedisStorage::HashOf(std::string_view table) const {
  return absl::StrCat(options_.prefix, ":", absl::string_view(table.data(), table.size()));
}

std::string RedisStorage::KeysOf(std::string_view table) const {
  return absl::StrCat(HashOf(table), ":keys");
}

absl::StatusOr<std::string> RedisStorage::Get(std::string_view table, std::string_view key) {
  MANTA_ASSIGN_OR_RETURN(Reply reply, link_.Run({"HGET", HashOf(table), std::string(key)}));
  if (reply->type != REDIS_REPLY_STRING) return absl::NotFoundError("no such key");
  return std::string(Text(*reply));
}

absl::Status RedisStorage::Scan(std::string_view table, std::string_view prefix, Visitor visit) {
  std::string begin = absl::StrCat("[", absl::string_view(prefix.data(), prefix.size()));
  int count = kScanFirst;
  while (true) {
    MANTA_ASSIGN_OR_RETURN(Reply keys, link_.Run({"ZRANGEBYLEX", KeysOf(table), begin, "+", "LIMIT",
                                                  "0", absl::StrCat(count)}));
    Command get = {"HMGET", HashOf(table)};
    for (size_t i = 0; i < keys->elements && Text(*keys->element[i]).starts_with(prefix); ++i) {
      get.emplace_back(Text(*keys->element[i]));
    }
    const size_t found = get.size() - 2;
    if (found == 0) return absl::OkStatus();
    MANTA_ASSIGN_OR_RETURN(Reply values, link_.Run(get));
    for (size_t i = 0; i < values->elements; ++i) {
      if (!visit(get[i + 2], Text(*values->element[i]))) return absl::OkStatus();
    }
    if (found < static_cast<size_t>(count)) return absl::OkStatus();
    begin = absl::StrCat("(", get.back());
    count = std::min(count * 8, kScanMax);
  }
}

absl::Status RedisStorage::Write(const WriteBatch& batch) {
  Command changes;
  for (const WriteBatch::Change& change : batch.changes()) {
    changes.insert(changes.end(), {change.value.has_value() ? "P" : "D", HashOf(change.table),
                                   KeysOf(change.table), change.key});
    if (change.value.has_value()) changes.push_back(*change.value);
  }
  return Run(&link_, std::move(changes));
}

}  // namespace ray::gcs
