// SPDX-License-Identifier: Apache-2.0
//
// How much memory a conversation takes, by its length.
#ifndef MNEME_CLIENT_FOOTPRINT_H_
#define MNEME_CLIENT_FOOTPRINT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/v1/models.pb.h"

namespace mneme::client {

// Most numbers (f32) that the state of a session holds up to `tokens`.
int64_t StateFloats(const v1::Model& model, int64_t tokens);

// Numbers in the key-value cache of a transformer of the model's width and
// depth, whose heads have keys and values of their own.
int64_t KeyValueFloats(const v1::Model& model, int64_t tokens);

// A system of the table of memory footprints in Munkhdalai et al. 2024,
// arXiv:2404.07143 (Table 1), with the sizes of the paper's models: 12 layers,
// 8 heads of 128, segments of 2048 tokens. The last one is a plain key-value
// cache, which the paper leaves out.
struct PublishedSystem {
  std::string name;
  std::string formula;
  int64_t (*floats)(int64_t tokens);
};
const std::vector<PublishedSystem>& PublishedSystems();

// How many times smaller the memory of Infini-attention is than that of
// Memorizing Transformers with 65,536 tokens kept: as the paper has it, from
// both rounded (183M / 1.6M), and exactly.
struct PublishedRatio {
  double printed = 0;
  double exact = 0;
};
PublishedRatio InfiniRatio();

}  // namespace mneme::client

#endif  // MNEME_CLIENT_FOOTPRINT_H_
