// SPDX-License-Identifier: Apache-2.0
//
// Every shell gets the same two tables: which words lead from a command to one
// of its commands, and which words may follow a command.
#include "client/completions.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/substitute.h"

namespace mneme::client {
namespace {

struct Place {
  std::string path;                // "mneme sessions"
  std::vector<std::string> words;  // that may come next
};

// `inherited` are the options that may follow every command.
void Collect(const CommandTree& tree, const std::string& path,
             std::vector<std::string> inherited, std::vector<Place>* places) {
  std::vector<std::string> options = std::move(inherited);
  for (const std::string& name : tree.options) options.push_back("--" + name);
  Place place{.path = path};
  for (const CommandTree& command : tree.commands) {
    place.words.push_back(command.name);
  }
  place.words.insert(place.words.end(), options.begin(), options.end());
  places->push_back(std::move(place));
  // Each command has a --help of its own.
  options.erase(std::remove(options.begin(), options.end(), "--help"),
                options.end());
  for (const CommandTree& command : tree.commands) {
    Collect(command, absl::StrCat(path, " ", command.name), options, places);
  }
}

// The paths below the first one, quoted and joined.
std::string Paths(const std::vector<Place>& places, const char* separator) {
  return absl::StrJoin(places.begin() + 1, places.end(), separator,
                       [](std::string* out, const Place& place) {
                         absl::StrAppend(out, "'", place.path, "'");
                       });
}

std::string Cases(const std::vector<Place>& places, const char* form) {
  std::string cases;
  for (const Place& place : places) {
    absl::SubstituteAndAppend(&cases, form, place.path,
                              absl::StrJoin(place.words, " "));
  }
  return cases;
}

constexpr char kBash[] =
    R"(# bash completion of $0; made by: $0 completions bash
_$0() {
  local word path='$0' words=''
  for word in "$${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$$path $$word" in
      $1) path="$$path $$word" ;;
    esac
  done
  case "$$path" in
$2  esac
  COMPREPLY=($$(compgen -W "$$words" -- "$${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _$0 $0
)";

constexpr char kZsh[] = R"(#compdef $0
# zsh completion of $0; made by: $0 completions zsh
_$0() {
  local word path_='$0' found=''
  for word in "$${(@)words[2,CURRENT-1]}"; do
    case "$$path_ $$word" in
      $1) path_="$$path_ $$word" ;;
    esac
  done
  case "$$path_" in
$2  esac
  compadd -- $${=found} || _files
}
compdef _$0 $0
)";

constexpr char kFish[] =
    R"(# fish completion of $0; made by: $0 completions fish
function __$0_words
  set -l path '$0'
  for word in (commandline -opc)[2..-1]
    if contains -- "$$path $$word" $1
      set path "$$path $$word"
    end
  end
  switch "$$path"
$2  end
end
complete -c $0 -a '(__$0_words)'
)";

}  // namespace

std::string MakeCompletions(const CommandTree& tree, const std::string& shell) {
  std::vector<Place> places;
  Collect(tree, tree.name, {}, &places);
  const std::string& name = tree.name;
  if (shell == "zsh") {
    return absl::Substitute(kZsh, name, Paths(places, "|"),
                            Cases(places, "    '$0') found='$1' ;;\n"));
  }
  if (shell == "fish") {
    return absl::Substitute(
        kFish, name, Paths(places, " "),
        Cases(places, "    case '$0'\n      string split ' ' -- '$1'\n"));
  }
  return absl::Substitute(kBash, name, Paths(places, "|"),
                          Cases(places, "    '$0') words='$1' ;;\n"));
}

}  // namespace mneme::client
