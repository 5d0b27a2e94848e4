// ONNX Runtime's side of the comparison: times the cases of `scalecrafter bench -list`.
//
// Reads {"threads", "time", "cases"} as JSON from the standard input and writes one JSON line a case:
// {"name", "variants": {name: [milliseconds]}}. A step is one case alone, with "model", the file of its network, "parts", that of a
// part of its batch or "", and "runs". The argument is the folder with node_modules/onnxruntime-node; compare.py starts it. Models are made here, with a protobuf writer of a few lines.
// Source of the field numbers: onnx/onnx, onnx/onnx.proto.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'

const ort = createRequire(process.argv[2] + '/')('onnxruntime-node')

// Protobuf: a field is its number and wire type, then its value.
function varint(v) {
  const out = []
  for (v = BigInt.asUintN(64, BigInt(v)); v > 127n; v >>= 7n) out.push(Number(v & 127n) | 128)
  out.push(Number(v))
  return Buffer.from(out)
}
const int = (field, v) => Buffer.concat([varint(field << 3), varint(v)])
const bytes = (field, b) => Buffer.concat([varint((field << 3) | 2), varint(b.length), b])
const text = (field, s) => bytes(field, Buffer.from(s))
const float = (field, v) => { const b = Buffer.alloc(4); b.writeFloatLE(v); return Buffer.concat([varint((field << 3) | 5), b]) }

function attribute(name, v) {
  if (typeof v === 'string') return Buffer.concat([text(1, name), text(4, v), int(20, 3)])
  if (Array.isArray(v)) return Buffer.concat([text(1, name), ...v.map(i => int(8, i)), int(20, 7)])
  if (v instanceof Float) return Buffer.concat([text(1, name), float(2, v.v), int(20, 1)])
  return Buffer.concat([text(1, name), int(3, v), int(20, 2)])
}
class Float { constructor(v) { this.v = v } }

function node(op, inputs, outputs, attributes = {}, domain = '') {
  return Buffer.concat([...inputs.map(i => text(1, i)), ...outputs.map(o => text(2, o)), text(4, op),
    ...Object.entries(attributes).map(([k, v]) => bytes(5, attribute(k, v))), text(7, domain)])
}

// A constant: element type 1 is float, 7 is int64.
function constant(name, dims, data) {
  const type = data instanceof Float32Array ? 1 : 7
  return Buffer.concat([...dims.map(d => int(1, d)), int(2, type), text(8, name), bytes(9, Buffer.from(data.buffer, data.byteOffset, data.byteLength))])
}

function value(name, dims) {
  const shape = Buffer.concat(dims.map(d => bytes(1, int(1, d))))
  return Buffer.concat([text(1, name), bytes(2, bytes(1, Buffer.concat([int(1, 1), bytes(2, shape)])))])
}

function model(nodes, constants, inputs, outputs) {
  const graph = Buffer.concat([...nodes.map(n => bytes(1, n)), text(2, 'g'), ...constants.map(c => bytes(5, c)),
    ...Object.entries(inputs).map(([k, d]) => bytes(11, value(k, d))), ...Object.entries(outputs).map(([k, d]) => bytes(12, value(k, d)))])
  const opset = (domain, version) => bytes(8, Buffer.concat([text(1, domain), int(2, version)]))
  return Buffer.concat([int(1, 8), bytes(7, graph), opset('', 17), opset('com.microsoft', 1)])
}

// n values of variance scale^2.
function random(n, scale = 1) {
  const out = new Float32Array(n)
  for (let i = 0; i < n; i++) out[i] = (Math.random() - 0.5) * Math.sqrt(12) * scale
  return out
}
const count = dims => dims.reduce((a, b) => a * b, 1)

// Python's round: halves to even.
function even(x) {
  const r = Math.round(x)
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r
}

function conv(c) {
  const d = Math.ceil(c.dilation), pad = d * (c.kernel - 1) / 2, side = even(c.side * (d / c.dilation)), small = Math.floor(c.side / c.stride)
  const resize = (x, y, n, ch, s) => node('Resize', [x, '', '', s], [y], { mode: 'linear', coordinate_transformation_mode: 'half_pixel' })
  const sizes = (name, ch, s) => constant(name, [4], new BigInt64Array([c.n, ch, s, s].map(BigInt)))
  const stretched = side !== c.side
  const nodes = [node('Conv', [stretched ? 'xs' : 'x', 'w', 'b'], [stretched ? 'ys' : 'y'],
    { kernel_shape: [c.kernel, c.kernel], dilations: [d, d], strides: [c.stride, c.stride], pads: [pad, pad, pad, pad] })]
  const constants = [constant('w', [c.cout, c.cin, c.kernel, c.kernel], random(c.cout * c.cin * c.kernel ** 2, 1 / Math.sqrt(c.cin * c.kernel ** 2))),
    constant('b', [c.cout], random(c.cout))]
  if (stretched) {
    nodes.unshift(resize('x', 'xs', c.n, c.cin, 's1'))
    nodes.push(resize('ys', 'y', c.n, c.cout, 's2'))
    constants.push(sizes('s1', c.cin, side), sizes('s2', c.cout, small))
  }
  return { conv: [nodes, constants, { x: [c.n, c.cin, c.side, c.side] }, { y: [c.n, c.cout, small, small] }] }
}

function linear(c) {
  return { gemm: [[node('Gemm', ['x', 'w', 'b'], ['y'], { transB: 1 })],
    [constant('w', [c.out, c.in], random(c.out * c.in, 1 / Math.sqrt(c.in))), constant('b', [c.out], random(c.out))],
    { x: [c.tokens, c.in] }, { y: [c.tokens, c.out] }] }
}

// Attention as ONNX Runtime's own operator and, where its scores stay below 4 GB, as plain products.
function attention(c) {
  const wide = c.heads * c.width
  const inputs = { q: [c.n, c.queries, wide], k: [c.n, c.keys, wide], v: [c.n, c.keys, wide] }, outputs = { y: [c.n, c.queries, wide] }
  const out = { MultiHeadAttention: [[node('MultiHeadAttention', ['q', 'k', 'v'], ['y'], { num_heads: c.heads }, 'com.microsoft')], [], inputs, outputs] }
  if (8 * c.n * c.heads * c.queries * c.keys <= 2 ** 32) {
    const split = (x, perm) => [node('Reshape', [x, 'heads'], [x + 'r']), node('Transpose', [x + 'r'], [x + 't'], { perm })]
    out.products = [[...split('q', [0, 2, 1, 3]), ...split('k', [0, 2, 3, 1]), ...split('v', [0, 2, 1, 3]),
      node('Mul', ['qt', 'scale'], ['qs']), node('MatMul', ['qs', 'kt'], ['s']), node('Softmax', ['s'], ['p'], { axis: 3 }), node('MatMul', ['p', 'vt'], ['o']),
      node('Transpose', ['o'], ['ot'], { perm: [0, 2, 1, 3] }), node('Reshape', ['ot', 'joined'], ['y'])],
      [constant('heads', [4], new BigInt64Array([0n, 0n, BigInt(c.heads), BigInt(c.width)])), constant('joined', [3], new BigInt64Array([0n, 0n, BigInt(wide)])),
        constant('scale', [], new Float32Array([c.width ** -0.5]))], inputs, outputs]
  }
  return out
}

async function open(model, threads) {
  return ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all' })
}

const tensors = shapes => Object.fromEntries(Object.entries(shapes).map(([k, d]) => [k, new ort.Tensor('float32', random(count(d)), d)]))

// Milliseconds of runs for that many seconds and at least so often, after one that is not timed.
async function clock(run, seconds, least) {
  const times = []
  await run()
  for (const begin = performance.now(); times.length < least || performance.now() - begin < 1000 * seconds;) {
    const start = performance.now()
    await run()
    times.push(performance.now() - start)
  }
  return times
}

// A network on one thread of its own, as a function that runs it once: the binding runs one network at a time in each of node's threads.
async function elsewhere(model, inputs) {
  const w = new Worker(fileURLToPath(import.meta.url), { argv: process.argv.slice(2), workerData: { model, inputs } })
  w.on('error', e => { throw e })
  const answer = () => new Promise(done => w.once('message', done))
  await answer()
  const run = () => { const done = answer(); w.postMessage('run'); return done }
  return [run, () => w.terminate()]
}

async function here({ model, inputs }) {
  const session = await open(model, 1), x = tensors(inputs)
  parentPort.on('message', async () => { await session.run(x); parentPort.postMessage('done') })
  parentPort.postMessage('ready')
}

const peak = () => 1024 * Number(readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\s*(\d+)/)[1])

// A network that steps.py exported; the file leaves sizes open.
async function step({ n, side, tokens, config }, job) {
  const inputs = n => ({ x: [n, config.in_channels, side, side], embedded: [n, config.block_out_channels[0]], text: [n, tokens, config.cross_attention_dim] })
  const session = await open(job.model, job.threads), x = tensors(inputs(n)), variants = {}, peak_rss = {}
  variants.exported = await clock(() => session.run(x), 1, job.runs)
  peak_rss.exported = peak()
  if (job.parts) { // a part of the batch on every thread, all at once
    await session.release()
    const parts = []
    for (let i = 0; i < job.threads; i++) parts.push(await elsewhere(job.parts, inputs(n / job.threads)))
    variants.parts = await clock(() => Promise.all(parts.map(([run]) => run())), 1, job.runs)
    peak_rss.parts = peak()
    await Promise.all(parts.map(([, end]) => end()))
  }
  return { variants, peak_rss }
}

async function main() {
  const job = JSON.parse(readFileSync(0, 'utf8'))
  const kinds = { conv, linear, attention }
  for (const c of job.cases) {
    if (c.step) {
      console.log(JSON.stringify({ name: c.name, ...await step(c.step, job) }))
      continue
    }
    const variants = {}
    const kind = Object.keys(kinds).find(k => c[k])
    for (const [name, [nodes, constants, inputs, outputs]] of Object.entries(kinds[kind](c[kind]))) {
      const session = await open(model(nodes, constants, inputs, outputs), job.threads)
      const x = tensors(inputs), y = tensors(outputs) // the result's memory is given, so that it is not allocated anew
      variants[name] = await clock(() => session.run(x, y), job.time, 3)
      await session.release()
    }
    console.log(JSON.stringify({ name: c.name, variants }))
  }
}

await (isMainThread ? main() : here(workerData))
