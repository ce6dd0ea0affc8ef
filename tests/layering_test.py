#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that dependencies between the libraries point one way.

    client --> proto <-- server --> engine
    base <- tensor <- ops <- model <- runtime
    tensor <- state <- {model, store} <- runtime
    base <- text <- runtime

A library may use itself and whatever is below it along the arrows. Checked are
the #include lines of every C++ file and the links between CMake targets. Also
checked: which folders may name which third-party library, and that no #if asks
for a MNEME_ feature outside a registry file.

    layering_test.py [ROOT]      checks the tree, exits 1 with one line per fault
    layering_test.py --self-test checks the checker on made-up trees
"""

import pathlib
import re
import sys
import tempfile

# library -> the libraries directly below it.
BELOW = {
    "base": [],
    "tensor": ["base"],
    "ops": ["tensor"],
    "state": ["tensor"],
    "store": ["state"],
    "text": ["base"],
    "model": ["ops", "state"],
    "runtime": ["model", "store", "text"],
    "engine": ["runtime"],  # engine/engine.h and engine/engine.cc
    "tools": ["engine"],
    "proto": [],
    "server": ["proto", "base"],  # and engine/engine.h, see Allowed()
    "client": ["proto"],
    "tests": ["tools", "server", "client"],
}
ENGINE = {"base", "tensor", "ops", "state", "store", "text", "model", "runtime",
          "engine", "tools"}
FOLDERS = ["proto", "server", "engine", "client", "tests"]
SUFFIXES = {".h", ".cc", ".cpp", ".hpp", ".inc", ".cu", ".cuh"}

# third party -> (what its include lines look like, what its CMake targets look
# like, who may include it). A library stands for its folder; a longer path
# narrows it.
THIRD_PARTY = {
    "gRPC": (r"grpc(pp|\+\+)?/", r"gRPC::|grpc", ["server", "client", "proto", "tests"]),
    "protobuf": (r"google/(protobuf|rpc)/", r"protobuf::", ["server", "client", "proto", "tests"]),
    "prometheus-cpp": (r"prometheus/", r"prometheus-cpp::", ["server", "tests"]),
    "oneDNN": (r"(oneapi/)?dnnl|oneapi/", r"DNNL::|dnnl", ["engine/ops/cpu", "tests/bench"]),
    "Highway": (r"hwy/", r"PkgConfig::HWY|hwy", ["engine/ops/cpu", "tests/ops"]),
    "CUDA": (r"cuda|cublas|cutlass/|cub/|thrust/|nv(rtc|ToolsExt)", r"CUDA::", ["engine/ops/cuda"]),
    "ICU": (r"unicode/", r"PkgConfig::ICU|ICU::", ["engine/text"]),
    "PCRE2": (r"pcre2", r"PkgConfig::PCRE2|pcre2", ["engine/text"]),
    "RocksDB": (r"rocksdb/", r"PkgConfig::ROCKSDB|rocksdb", ["engine/store/rocksdb", "tests/fault", "tests/store", "tests/support"]),
    "CLI11": (r"CLI/", r"CLI11::", ["server", "client", "tools", "tests/bench"]),
}
# The tests of an engine library stand where the engine stands.
NO_RPC = {"gRPC", "protobuf", "prometheus-cpp"}

INCLUDE = re.compile(r'^\s*#\s*include(?:_next)?\s*([<"])([^>"]+)[>"]')
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif|elifdef|elifndef)\b(.*)")
# Guards against a second inclusion (_H_) and a second pass of Highway's
# foreach_target (_ONCE) ask for no feature.
FEATURE = re.compile(r"\bMNEME_\w+(?<!_H_)(?<!_ONCE)\b")
MAIN = re.compile(r"^\s*(?:int|auto)\s+main\s*\(", re.MULTILINE)


def Closure(library):
    """The library and everything below it."""
    found, todo = set(), [library]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(BELOW[name])
    return found


def LibraryOf(path):
    """The library that a path relative to the root belongs to, or None."""
    parts = pathlib.PurePosixPath(path).parts
    if not parts or parts[0] not in FOLDERS:
        return None
    if parts[0] != "engine":
        return parts[0]
    return "engine" if len(parts) == 2 else parts[1]


def Allowed(importer_path, importer, target_path, target):
    """Whether a file of one library may include a file of another."""
    if importer == "server" and target == "engine":
        return target_path == "engine/engine.h"
    if importer == "tests":
        mine = pathlib.PurePosixPath(importer_path).parts[1:2]
        if target == "tests":
            theirs = pathlib.PurePosixPath(target_path).parts[1:2]
            return theirs == mine or theirs == ("support",)
        if mine and mine[0] in ENGINE:
            return target in ENGINE
    return target in Closure(importer)


def AllowedText(importer_path, importer):
    if importer == "server":
        return "engine/engine.h, engine/base, proto, server"
    if importer == "tests":
        mine = pathlib.PurePosixPath(importer_path).parts[1]
        if mine in ENGINE:
            return f"engine, tests/{mine}, tests/support"
        return f"proto, server, engine, client, tests/{mine}, tests/support"
    return ", ".join(sorted(Closure(importer)))


def MayUseThirdParty(name, path, library):
    owners = THIRD_PARTY[name][2]
    if library == "tests" and name in NO_RPC:
        return pathlib.PurePosixPath(path).parts[1] not in ENGINE
    return any(owner == library or path.startswith(owner + "/") for owner in owners)


def Resolve(root, path, bracket, name):
    """The path, relative to the root, of the file of ours that is meant, or None."""
    if name.endswith(".pb.h"):
        return None if name.startswith(("google/", "grpc/")) else "proto/" + name.removeprefix("proto/")
    if bracket == '"':
        beside = (root / path).parent / name
        if beside.exists():
            beside = beside.resolve()
            if beside.is_relative_to(root):
                return beside.relative_to(root).as_posix()
    return name if name.split("/")[0] in FOLDERS and "/" in name else None


def CheckSource(root, path, library, faults):
    text = (root / path).read_text(encoding="utf-8", errors="replace")
    # A joined line keeps its first number; blanked comments keep all numbers.
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.DOTALL)
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        condition = CONDITION.match(line)
        if condition and FEATURE.search(condition.group(1)) and "registry" not in pathlib.PurePosixPath(path).name:
            faults.append((path, number, f"a feature test outside a registry file: {line.strip()}"))
        match = INCLUDE.match(line)
        if not match:
            continue
        bracket, name = match.groups()
        target_path = Resolve(root, path, bracket, name)
        if target_path is not None:
            target = LibraryOf(target_path)
            if target not in BELOW:
                faults.append((path, number, f'"{name}" belongs to no library that this test knows'))
            elif not Allowed(path, library, target_path, target):
                faults.append((path, number, f'found {library} -> {target} by "{name}"; '
                               f"{library} may include: {AllowedText(path, library)}"))
            continue
        for party, (pattern, _, owners) in THIRD_PARTY.items():
            if not re.match(pattern, name):
                continue
            if not MayUseThirdParty(party, path, library):
                faults.append((path, number, f"found {party} ({name}) in {library}; "
                               f"allowed in: {', '.join(owners)}"))
            elif party == "CLI11" and not (path.endswith(".cc") and MAIN.search(text)):
                faults.append((path, number, f"found CLI11 ({name}) in a file without main()"))


COMMAND = re.compile(r"\b(mneme_library|mneme_executable|add_library|add_executable|target_link_libraries)\s*\(([^()]*)\)",
                     re.IGNORECASE)
LINK_WORDS = {"PUBLIC", "PRIVATE", "INTERFACE", "LIBRARIES"}
LIBRARY_KINDS = {"STATIC", "SHARED", "MODULE", "OBJECT", "INTERFACE", "ALIAS", "IMPORTED", "EXCLUDE_FROM_ALL"}


def ReadCMake(root, path, targets, links):
    """Collects target -> library, and (target, linked, path, line)."""
    folder = pathlib.PurePosixPath(path).parent
    text = (root / path).read_text(encoding="utf-8")
    text = re.sub(r"#[^\n]*", "", text)
    for match in COMMAND.finditer(text):
        command, words = match.group(1).lower(), match.group(2).split()
        if not words or "$" in words[0]:
            continue
        target = words[0]
        line = text.count("\n", 0, match.start()) + 1
        linking = command == "target_link_libraries"
        if not linking:
            sources = [word for word in words[1:] if pathlib.PurePosixPath(word).suffix in SUFFIXES
                       and "$" not in word]
            where = LibraryOf((folder / sources[0]).as_posix() if sources else (folder / "x.cc").as_posix())
            if command == "add_library" and "ALIAS" in words:
                targets[target] = ("alias", words[words.index("ALIAS") + 1])
                continue
            targets[target] = (where, path, line)
        if command.startswith("add_"):
            continue
        for offset, word in enumerate(words[1:], 1):
            if word in LINK_WORDS:
                linking = True
            elif word == "SOURCES":
                linking = False
            elif linking:
                at = line + len(match.group(2).split(word)[0].split("\n")) - 1
                links.append((target, word, path, at))


def CheckCMake(root, paths, faults):
    targets, links = {}, []
    for path in paths:
        ReadCMake(root, path, targets, links)

    def Library(name):
        entry = targets.get(name)
        if entry is None:
            return None
        return Library(entry[1]) if entry[0] == "alias" else entry[0]

    for target, linked, path, line in links:
        library, below = Library(target), Library(linked)
        if library not in BELOW:
            continue
        if below in BELOW:
            # Inside tests, folders are told apart by their includes.
            if below == "tests" and library == "tests":
                continue
            header = "engine/engine.h" if below == "engine" else f"{below}/x.h"
            if not Allowed(path if library == "tests" else "", library, header, below):
                faults.append((path, line, f"target {target} ({library}) links {linked} ({below}); "
                               f"{library} may use: {AllowedText(path, library)}"))
            continue
        for party, (_, pattern, owners) in THIRD_PARTY.items():
            if not re.match(pattern, linked):
                continue
            # One CMake file may hold the targets of a whole library, so a link
            # is judged by the library, an include by the folder.
            allowed = {LibraryOf(owner + "/x") or owner for owner in owners}
            if library not in allowed:
                faults.append((path, line, f"target {target} ({library}) links {party} ({linked}); "
                               f"allowed in: {', '.join(owners)}"))


def Check(root):
    """Returns (number of sources, faults as (path, line, text))."""
    root = root.resolve()
    faults, sources, cmakes = [], 0, []
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            path = file.relative_to(root).as_posix()
            if file.name == "CMakeLists.txt" or file.suffix == ".cmake":
                cmakes.append(path)
            elif file.suffix in SUFFIXES and file.is_file():
                sources += 1
                library = LibraryOf(path)
                if library not in BELOW:
                    faults.append((path, 1, f"engine/{library} is no library that this test knows: "
                                   "give it its place in BELOW"))
                else:
                    CheckSource(root, path, library, faults)
    CheckCMake(root, cmakes, faults)
    return sources, faults


# Each case: files, and the (path, line) at which a fault must be reported. All
# other lines must pass.
GUARDED = "#ifndef MNEME_ENGINE_BASE_A_H_\n#define MNEME_ENGINE_BASE_A_H_\n#endif\n"
CASES = {
    "every arrow of the picture passes": ({
        "engine/base/a.h": GUARDED,
        "engine/tensor/t.h": '#include "engine/base/a.h"\n#include "absl/types/span.h"\n#include <vector>\n',
        "engine/ops/o.h": '#include "engine/tensor/t.h"\n#include "engine/base/a.h"\n',
        "engine/ops/cpu/k.cc": '#include <dnnl.hpp>\n#include "hwy/highway.h"\n#include "engine/ops/o.h"\n',
        "engine/ops/cuda/k.cu": "#include <cuda_runtime.h>\n#include <cublasLt.h>\n",
        "engine/state/s.h": '#include "engine/tensor/t.h"\n',
        "engine/store/rocksdb/s.cc": '#include "engine/state/s.h"\n#include "engine/base/a.h"\n',
        "engine/text/x.h": '#include "engine/base/a.h"\n',
        "engine/model/mixers/m.cc": '#include "engine/ops/o.h"\n#include "engine/state/s.h"\n#include "engine/model/m.h"\n',
        "engine/model/registry.cc": "#ifdef MNEME_WITH_CUDA\n#endif\n",
        "engine/model/m.h": '#include "engine/base/a.h"\n',
        "engine/runtime/r.cc": '#include "engine/model/m.h"\n#include "engine/store/s.h"\n#include "engine/text/x.h"\n',
        "engine/engine.h": '#include "engine/runtime/r.h"\n#include "engine/base/a.h"\n',
        "engine/tools/mk.cc": '#include "CLI/CLI.hpp"\n#include "engine/engine.h"\n#include "engine/ops/o.h"\nint main() {}\n',
        "server/s.cc": '#include "engine/engine.h"\n#include "engine/base/a.h"\n#include "proto/mneme/v1/m.grpc.pb.h"\n'
                       '#include <grpcpp/grpcpp.h>\n#include <prometheus/counter.h>\n#include "server/s.h"\n',
        "server/main.cc": '#include <CLI/CLI.hpp>\nint main(int argc, char** argv) {}\n',
        "client/c.cc": '#include "mneme/v1/m.pb.h"\n#include "client/c.h"\n#include <google/protobuf/util/json_util.h>\n',
        "tests/ops/t.cc": '#include "engine/ops/cpu/k.h"\n#include "engine/model/m.h"\n#include "tests/support/s.h"\n',
        "tests/integration/t.cc": '#include "client/c.h"\n#include "server/s.h"\n#include <grpcpp/grpcpp.h>\n',
        "engine/CMakeLists.txt":
            "mneme_library(mneme_base SOURCES base/a.cc PUBLIC absl::status)\n"
            "mneme_library(mneme_ops SOURCES ops/o.cc PUBLIC mneme_base PRIVATE DNNL::dnnl)\n"
            "mneme_library(mneme_engine SOURCES engine.cc PUBLIC mneme_ops)\n",
        "server/CMakeLists.txt": "mneme_executable(mnemed SOURCES main.cc LIBRARIES mneme_engine gRPC::grpc++)\n",
    }, []),
    "an include against the arrows": ({
        "engine/base/b.cc": '// one\n#include "engine/tensor/t.h"\n',
        "engine/tensor/t.cc": '#include "engine/ops/o.h"\n',
        "engine/ops/o.cc": '#include "engine/state/s.h"\n#include "engine/model/m.h"\n',
        "engine/state/s.cc": '#include "engine/ops/o.h"\n#include "engine/store/s.h"\n',
        "engine/store/s.cc": '#include "engine/model/m.h"\n',
        "engine/text/t.cc": '#include "engine/tensor/t.h"\n',
        "engine/model/m.cc": '#include "engine/text/t.h"\n#include "engine/store/s.h"\n#include "engine/runtime/r.h"\n',
        "engine/runtime/r.cc": '#include "engine/engine.h"\n',
        "engine/engine.cc": '#include "engine/tools/t.h"\n',
    }, [("engine/base/b.cc", 2), ("engine/tensor/t.cc", 1), ("engine/ops/o.cc", 1), ("engine/ops/o.cc", 2),
        ("engine/state/s.cc", 1), ("engine/state/s.cc", 2), ("engine/store/s.cc", 1), ("engine/text/t.cc", 1),
        ("engine/model/m.cc", 1), ("engine/model/m.cc", 2), ("engine/model/m.cc", 3),
        ("engine/runtime/r.cc", 1), ("engine/engine.cc", 1)]),
    "an include across the pillars": ({
        "engine/runtime/r.cc": '#include "server/s.h"\n#include "proto/mneme/v1/m.pb.h"\n#include "mneme/v1/m.pb.h"\n',
        "engine/base/b.cc": '#include "tests/support/s.h"\n# include <client/c.h>\n',
        "server/s.cc": '#include "engine/runtime/r.h"\n#include "client/c.h"\n#include "engine/engine_impl.h"\n'
                       '#include "engine/tools/t.h"\n',
        "client/c.cc": '#include "engine/base/b.h"\n#include "engine/engine.h"\n#include "server/s.h"\n',
        "proto/p.cc": '#include "engine/base/b.h"\n',
        "tests/base/t.cc": '#include "server/s.h"\n#include "tests/ops/o.h"\n#include "mneme/v1/m.pb.h"\n',
    }, [("engine/runtime/r.cc", 1), ("engine/runtime/r.cc", 2), ("engine/runtime/r.cc", 3),
        ("engine/base/b.cc", 1), ("engine/base/b.cc", 2),
        ("server/s.cc", 1), ("server/s.cc", 2), ("server/s.cc", 3), ("server/s.cc", 4),
        ("client/c.cc", 1), ("client/c.cc", 2), ("client/c.cc", 3), ("proto/p.cc", 1),
        ("tests/base/t.cc", 1), ("tests/base/t.cc", 2), ("tests/base/t.cc", 3)]),
    "a relative include hides nothing": ({
        "engine/ops/o.h": "",
        "engine/tensor/t.cc": '#include "../ops/o.h"\n#include "t.h"\n',
        "engine/tensor/t.h": "",
    }, [("engine/tensor/t.cc", 1)]),
    "a third party out of its folder": ({
        "engine/runtime/r.h": "#include <grpcpp/grpcpp.h>\n#include <grpc/grpc.h>\n#include <google/protobuf/message.h>\n"
                              "#include <prometheus/counter.h>\n",
        "engine/ops/o.cc": "#include <dnnl.hpp>\n#include <hwy/highway.h>\n#include <cuda_runtime.h>\n",
        "engine/ops/reference/r.cc": '#include "oneapi/dnnl/dnnl.hpp"\n',
        "engine/model/m.cc": '#include "hwy/aligned_allocator.h"\n',
        "engine/ops/cpu/c.cc": "#include <cublas_v2.h>\n#include <CLI/CLI.hpp>\nint main() {}\n",
        "client/c.cc": "#include <prometheus/counter.h>\n",
        "client/main.cc": "#include <CLI/CLI.hpp>\nint main() {}\n",
        "server/config.cc": "#include <CLI/CLI.hpp>\n",
        "tests/ops/t.cc": "#include <grpcpp/grpcpp.h>\n",
    }, [("engine/runtime/r.h", 1), ("engine/runtime/r.h", 2), ("engine/runtime/r.h", 3), ("engine/runtime/r.h", 4),
        ("engine/ops/o.cc", 1), ("engine/ops/o.cc", 2), ("engine/ops/o.cc", 3), ("engine/ops/reference/r.cc", 1),
        ("engine/model/m.cc", 1), ("engine/ops/cpu/c.cc", 1), ("engine/ops/cpu/c.cc", 2), ("client/c.cc", 1),
        ("server/config.cc", 1), ("tests/ops/t.cc", 1)]),
    "a feature test outside a registry": ({
        "engine/model/m.cc": "#ifdef MNEME_WITH_CUDA\n#endif\n#if defined(MNEME_X) && 1\n#endif\n"
                             "#if defined(__AVX2__)\n#endif\n",
        "engine/model/n.h": "#ifndef MNEME_N_H_\n#define MNEME_N_H_\n#ifdef MNEME_H_FAST\n#endif\n#endif\n",
        "engine/ops/cpu/o-inl.h": "#if defined(MNEME_O_INL_H_) == defined(HWY_TARGET_TOGGLE)\n#endif\n"
                                  "#ifndef MNEME_O_ONCE\n#elif MNEME_O_H_ && MNEME_Y\n#endif\n",
    }, [("engine/model/m.cc", 1), ("engine/model/m.cc", 3), ("engine/model/n.h", 3), ("engine/ops/cpu/o-inl.h", 4)]),
    "comments are not includes": ({
        "engine/base/b.cc": '// #include "server/s.h"\n/*\n#include "server/s.h"\n*/\n#include "server/s.h"\n',
    }, [("engine/base/b.cc", 5)]),
    "a library without a place": ({"engine/cache/c.h": "", "engine/base/b.h": '#include "engine/cache/c.h"\n'},
                                  [("engine/cache/c.h", 1), ("engine/base/b.h", 1)]),
    "a link against the arrows": ({
        "engine/base/CMakeLists.txt": "mneme_library(mneme_base\n  SOURCES a.cc\n  PRIVATE mneme_tensor)\n",
        "engine/tensor/CMakeLists.txt": "mneme_library(mneme_tensor SOURCES t.cc PUBLIC mneme_base)\n",
        "engine/model/CMakeLists.txt": "add_library(mneme_model STATIC m.cc)\n# gRPC::grpc++\n"
                                       "target_link_libraries(mneme_model PUBLIC mneme_tensor\n  gRPC::grpc++)\n"
                                       "target_link_libraries(mneme_model PRIVATE DNNL::dnnl)\n",
        "server/CMakeLists.txt": "mneme_executable(mnemed SOURCES main.cc LIBRARIES mneme_base mneme_model)\n",
        "client/CMakeLists.txt": "mneme_executable(mneme SOURCES main.cc LIBRARIES\n  mneme_base prometheus-cpp::core)\n",
    }, [("engine/base/CMakeLists.txt", 3), ("engine/model/CMakeLists.txt", 4), ("engine/model/CMakeLists.txt", 5),
        ("server/CMakeLists.txt", 1), ("client/CMakeLists.txt", 2), ("client/CMakeLists.txt", 2)]),
}


def SelfTest():
    bad = 0
    for name, (files, wanted) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            _, faults = Check(root)
        found = sorted((path, line) for path, line, _ in faults)
        if found != sorted(wanted):
            bad += 1
            print(f"self-test failed: {name}")
            for path, line, text in faults:
                if (path, line) not in wanted:
                    print(f"  wrongly reported: {path}:{line}: {text}")
            for path, line in wanted:
                if (path, line) not in found:
                    print(f"  not reported: {path}:{line}")
            if sorted(set(found)) == sorted(set(wanted)):
                print("  a line was reported a wrong number of times")
    print(f"self-test: {len(CASES) - bad} of {len(CASES)} cases hold")
    return 1 if bad else 0


def Main(arguments):
    if arguments == ["--self-test"]:
        return SelfTest()
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    sources, faults = Check(root)
    for path, line, text in faults:
        print(f"{path}:{line}: {text}")
    if sources == 0:
        print(f"found no C++ file under {root}")
        return 1
    print(f"{sources} files checked, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(Main(sys.argv[1:]))
