// Recommend with an exported file in C++17; needs onnxruntime.
// recommend model.onnx 10 ITEM ITEM ...
#include <onnxruntime_cxx_api.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// A tensor of shape (1, ids).
static Ort::Value Row(const std::vector<const char*>& ids, OrtAllocator* allocator) {
  const int64_t shape[] = {1, static_cast<int64_t>(ids.size())};
  Ort::Value row = Ort::Value::CreateTensor(allocator, shape, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING);
  row.FillStringTensor(ids.data(), ids.size());
  return row;
}

static std::vector<std::string> Texts(const Ort::Value& tensor) {
  const size_t count = tensor.GetTensorTypeAndShapeInfo().GetElementCount();
  std::vector<size_t> starts(count);
  std::string all(tensor.GetStringTensorDataLength(), '\0');
  tensor.GetStringTensorContent(all.data(), all.size(), starts.data(), count);
  starts.push_back(all.size());
  std::vector<std::string> texts;
  for (size_t place = 0; place < count; ++place)
    texts.push_back(all.substr(starts[place], starts[place + 1] - starts[place]));
  return texts;
}

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL K ITEM ...\n", argv[0]);
    return 2;
  }
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING);
  Ort::Session session(env, argv[1], Ort::SessionOptions{nullptr});
  Ort::AllocatorWithDefaultOptions allocator;

  int64_t k = std::atoll(argv[2]);
  const int64_t one[] = {1};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Ort::Value> given;
  given.push_back(Row({argv + 3, argv + argc}, allocator));  // history, most recent last
  given.push_back(Row({}, allocator));                       // blocked: never recommended
  given.push_back(Row({}, allocator));                       // allowed: nothing else; none = everything may be
  given.push_back(Ort::Value::CreateTensor<int64_t>(memory, &k, 1, one, 1));
  const char* inputs[] = {"history", "blocked", "allowed", "k"};
  const char* outputs[] = {"item_id", "score"};
  const auto made = session.Run(Ort::RunOptions{nullptr}, inputs, given.data(), given.size(), outputs, 2);

  const auto items = Texts(made[0]);
  const float* scores = made[1].GetTensorData<float>();
  for (size_t place = 0; place < items.size(); ++place)
    if (!items[place].empty())  // "" = no item is left
      std::printf("%s\t%.4f\n", items[place].c_str(), scores[place]);
  return 0;
} catch (const Ort::Exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
