#include "ray/base/logging.h"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace ray::base {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::shared_ptr<spdlog::logger>& Logger() {
  static auto logger = [] {
    auto initial =
        std::make_shared<spdlog::logger>("ray", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    initial->set_level(spdlog::level::warn);
    return initial;
  }();
  return logger;
}

}  // namespace

void InitLogging(const LogOptions& options) {
  constexpr size_t kFilesKept = 3;
  spdlog::sink_ptr sink;
  if (options.file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  } else {
    sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.file,
                                                                  options.rotate_bytes, kFilesKept);
  }
  auto logger = std::make_shared<spdlog::logger>(options.process_name, std::move(sink));
  logger->set_level(spdlog::level::from_str(options.level));
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %L %n[%P] %v");
  logger->flush_on(spdlog::level::info);
  Logger() = std::move(logger);
}

bool LogEnabled(LogLevel level) { return Logger()->should_log(ToSpdlog(level)); }

void Log(LogLevel level, std::string_view message) {
  Logger()->log(ToSpdlog(level), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace ray::base
