// SPDX-License-Identifier: Apache-2.0
// switchyard explain OP SHAPE: which backend would answer, and why.
#include "cancel.hpp"
#include "op/op_spec.hpp"
#include "session.hpp"
#include "shapes.hpp"

namespace switchyard::cli {
namespace {

struct Arguments {
  std::string op;
  std::vector<std::string> shape;
  bool measure = false;
};

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto shape = parse_op_shape(a.op, a.shape, common);
  if (!shape) return tl::unexpected(shape.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  EndAtOnce scope;
  auto explanation = engine->explain(shape->op, shape->shape.text(), a.measure);
  if (!explanation) return tl::unexpected(explanation.error());
  Json doc = document("explain");
  doc.update(Json::parse(explanation->json()));
  print_result(common, doc, explanation->text());
  return 0;
}

}  // namespace

void add_explain(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app =
      add_command(program, nullptr, "explain", "Which backend would answer a call, and why",
                  [a, &program] { return run(*a, program.common); });
  app->add_option("OP", a->op,
                  "quantize, dequantize, kmeans, kmeans.assign, kmeans.seed, attention, matmul, "
                  "rope, rms_norm, layer_norm, swiglu or gelu")
      ->required();
  app->add_option("SHAPE", a->shape, "name=value,..., such as n=100000,d=128,k=1024,dtype=f32")
      ->required();
  app->add_flag("--measure", a->measure, "Time the candidates on generated data");
}

}  // namespace switchyard::cli
