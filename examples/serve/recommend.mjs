// Recommend with an exported file in Node; needs onnxruntime-node.
// node recommend.mjs model.onnx 10 ITEM ITEM ...
import ort from "onnxruntime-node";

const [path, k, ...history] = process.argv.slice(2);
const session = await ort.InferenceSession.create(path);
const none = () => new ort.Tensor("string", [], [1, 0]);
const { item_id, score } = await session.run({
  history: new ort.Tensor("string", history, [1, history.length]), // most recent last
  blocked: none(), // never recommended
  allowed: none(), // nothing else is recommended; none = everything may be
  k: new ort.Tensor("int64", BigInt64Array.of(BigInt(k)), [1]),
});
item_id.data.forEach((item, place) => {
  if (item) console.log(`${item}\t${score.data[place].toFixed(4)}`); // "" = no item is left
});
