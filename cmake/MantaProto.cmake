# manta_proto_library(<target> DIR <folder under protos/> [GRPC] [DEPS <proto targets>])
#
# Compiles every protos/<folder>/*.proto into the static library <target>. All our protos say
# `option optimize_for = LITE_RUNTIME;`: a process then loads one protobuf runtime, the small one.
# (protoc refuses a full proto that imports a lite one, and two runtimes in one process share
# symbols.) Generated code is compiled without our warnings.
function(manta_proto_library target)
  cmake_parse_arguments(ARG "GRPC" "DIR" "DEPS" ${ARGN})
  set(root "${CMAKE_SOURCE_DIR}/protos")
  set(out "${CMAKE_BINARY_DIR}/protos")
  file(MAKE_DIRECTORY "${out}")
  file(GLOB protos CONFIGURE_DEPENDS "${root}/${ARG_DIR}/*.proto")
  if(NOT protos)
    add_library(${target} INTERFACE)
    target_include_directories(${target} SYSTEM INTERFACE "${out}")
    target_link_libraries(${target} INTERFACE ${ARG_DEPS})
    return()
  endif()

  # A change of a proto may change what is generated from those that import it.
  set(imports ${protos})
  foreach(dep IN LISTS ARG_DEPS)
    get_target_property(dep_protos ${dep} MANTA_PROTOS)
    if(dep_protos)
      list(APPEND imports ${dep_protos})
    endif()
  endforeach()

  set(sources)
  foreach(proto IN LISTS protos)
    file(RELATIVE_PATH rel "${root}" "${proto}")
    string(REGEX REPLACE "\\.proto$" "" stem "${rel}")
    set(generated "${out}/${stem}.pb.cc" "${out}/${stem}.pb.h")
    set(flags "--proto_path=${root}" "--cpp_out=${out}")
    if(ARG_GRPC)
      file(STRINGS "${proto}" services REGEX "^service ")
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${proto}")
      if(services)
        list(APPEND generated "${out}/${stem}.grpc.pb.cc" "${out}/${stem}.grpc.pb.h")
        list(APPEND flags "--grpc_out=${out}"
             "--plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>")
      endif()
    endif()
    add_custom_command(
      OUTPUT ${generated}
      COMMAND protobuf::protoc ${flags} "${proto}"
      DEPENDS ${imports}
      COMMENT "protoc ${rel}"
      VERBATIM)
    list(APPEND sources ${generated})
  endforeach()

  add_library(${target} STATIC ${sources})
  set_target_properties(${target} PROPERTIES MANTA_PROTOS "${imports}")
  target_compile_options(${target} PRIVATE -w)
  target_include_directories(${target} SYSTEM PUBLIC "${out}")
  target_link_libraries(${target} PUBLIC ${ARG_DEPS} protobuf::libprotobuf-lite Threads::Threads)
  if(ARG_GRPC)
    target_link_libraries(${target} PUBLIC gRPC::grpc++)
  endif()
endfunction()
