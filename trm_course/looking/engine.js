// A Tiny Recursive Model with a 3x3 convolution as its mixer, in plain JavaScript.
//
// All numbers lie in long rows (Float32Array): cell after cell of the grid, and for each cell its D channels. The names are
// those of the Python code: x the question, y the answer so far, z the thought, n latent steps, T recursions.
// Functions with a star are generators: they stop at every `yield` and go on when they are asked to, so that whoever calls
// them can draw and listen in between. Notebook 18 of the course explains each part beside its PyTorch twin.
"use strict";

// The weights by their PyTorch names. Each is three letters, the digits of a number below 64 * 64 * 64, which is moved so that 0 lies
// in the middle and multiplied by the scale of its tensor.
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
function unpack(tensors) {
  const digits = new Uint8Array(128);                 // the digit of each letter, by the letter's code
  [...LETTERS].forEach((letter, digit) => { digits[letter.charCodeAt(0)] = digit; });
  return Object.fromEntries(tensors.map(({ name, scale, text }) => {
    const weights = new Float32Array(text.length / 3), digit = place => digits[text.charCodeAt(place)];
    for (let place = 0; place < weights.length; place++) {
      const number = 64 * 64 * digit(3 * place) + 64 * digit(3 * place + 1) + digit(3 * place + 2);
      weights[place] = scale * (number - 64 ** 3 / 2);
    }
    return [name, weights];
  }));
}

// Weighted sums: vectors (rows x inputs) times weights (outputs x inputs) gives (rows x outputs). Nearly all time is spent here.
// Eight sums grow at once, of two rows and four outputs, because six numbers read from memory then serve eight products.
// Both arrays are read from left to right, as PyTorch stores them. Where rows or outputs run out, the last one is done again.
function product(weights, vectors, rows, outputs, inputs) {
  const result = new Float32Array(rows * outputs), last = outputs - 1;
  for (let row = 0; row < rows; row += 2) {
    const other = Math.min(row + 1, rows - 1), left = row * inputs, right = other * inputs;
    for (let output = 0; output < outputs; output += 4) {
      const first = output, second = Math.min(output + 1, last), third = Math.min(output + 2, last), fourth = Math.min(output + 3, last);
      const w0 = first * inputs, w1 = second * inputs, w2 = third * inputs, w3 = fourth * inputs;
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
      for (let input = 0; input < inputs; input++) {
        const a = vectors[left + input], b = vectors[right + input];
        const p = weights[w0 + input], q = weights[w1 + input], r = weights[w2 + input], s = weights[w3 + input];
        a0 += a * p; a1 += a * q; a2 += a * r; a3 += a * s;
        b0 += b * p; b1 += b * q; b2 += b * r; b3 += b * s;
      }
      const here = row * outputs, there = other * outputs;
      result[here + first] = a0; result[here + second] = a1; result[here + third] = a2; result[here + fourth] = a3;
      result[there + first] = b0; result[there + second] = b1; result[there + third] = b2; result[there + fourth] = b3;
    }
  }
  return result;
}

// The sum of several rows of numbers, place by place.
function add(...parts) {
  return parts[0].map((_, place) => parts.reduce((sum, part) => sum + part[place], 0));
}

// Brings each vector of so many channels to a mean square of 1 (RMSNorm).
function normalise(vectors, channels) {
  for (let from = 0; from < vectors.length; from += channels) {
    const vector = vectors.subarray(from, from + channels);       // a window, not a copy
    const square = vector.reduce((sum, value) => sum + value * value, 0);
    const scale = 1 / Math.sqrt(square / channels + 1e-5);
    for (let channel = 0; channel < channels; channel++) vector[channel] *= scale;
  }
  return vectors;
}

// For every cell in one row of the grid, the nine vectors in and around it in a line: what a 3x3 convolution reads. Outside all is 0.
function neighbourhoods(h, row, side, channels) {
  const found = new Float32Array(side * 9 * channels);
  for (let column = 0; column < side; column++) {
    for (let near = 0; near < 9; near++) {
      const down = row + Math.floor(near / 3) - 1, along = column + near % 3 - 1;
      if (down < 0 || along < 0 || down >= side || along >= side) continue;
      const cell = (down * side + along) * channels;
      found.set(h.subarray(cell, cell + channels), (column * 9 + near) * channels);
    }
  }
  return found;
}

class Engine {
  constructor(config, weights) {
    const { mixer, puzzles, width, layers } = config;
    if (mixer !== "conv") throw new Error(`This page runs networks with mixer='conv', but these weights have mixer='${mixer}'.`);
    if (puzzles) throw new Error(`This page runs networks without a puzzle table, but these weights have one of ${puzzles} puzzles.`);
    this.config = config;
    this.weights = weights;
    this.channels = width;
    this.blocks = Array.from({ length: layers }, (_, layer) => {
      const weight = name => weights[`net.blocks.${layer}.${name}.weight`];
      return { mixer: weight("mixer"), gateUp: weight("mlp.gate_up"), down: weight("mlp.down") };
    });
  }

  // The question x: the vector of each token, brought to size 1 per channel.
  embed(tokens) {
    const scale = Math.sqrt(this.channels), table = this.weights["embed.weight"];
    return Float32Array.from({ length: tokens.length * this.channels }, (_, place) =>
      scale * table[tokens[Math.floor(place / this.channels)] * this.channels + place % this.channels]);
  }

  // The state before any thinking: the same two vectors in every cell.
  start(cells) {
    const everywhere = vector => Float32Array.from({ length: cells * this.channels }, (_, place) => vector[place % this.channels]);
    return { y: everywhere(this.weights.y_start), z: everywhere(this.weights.z_start) };
  }

  // The gated unit, for a few cells: one half of the first map opens the gate for the other.
  swiglu(block, vectors, cells) {
    const inner = block.down.length / this.channels;
    const gateUp = product(block.gateUp, vectors, cells, 2 * inner, this.channels);
    const gated = new Float32Array(cells * inner);
    for (let cell = 0; cell < cells; cell++) {
      for (let channel = 0; channel < inner; channel++) {
        const gate = gateUp[2 * cell * inner + channel], up = gateUp[(2 * cell + 1) * inner + channel];
        gated[cell * inner + channel] = gate / (1 + Math.exp(-gate)) * up;
      }
    }
    return product(block.down, gated, cells, this.channels, inner);
  }

  // One call of the net. It yields after each row of the grid: about a millisecond of work.
  *net(h) {
    const channels = this.channels, side = Math.sqrt(h.length / channels), line = side * channels;
    for (const block of this.blocks) {
      const next = new Float32Array(h.length);
      for (let row = 0; row < side; row++) {
        const heard = product(block.mixer, neighbourhoods(h, row, side, channels), side, channels, 9 * channels);
        const mixed = normalise(add(h.subarray(row * line, (row + 1) * line), heard), channels);
        next.set(normalise(add(mixed, this.swiglu(block, mixed, side)), channels), row * line);
        yield;
      }
      h = next;
    }
    return h;
  }

  // One supervision step: changes y and z in `state`, and yields what it did after each of the T (n + 1) calls.
  // x is read anew for every call, so the question may change in the middle of a thought.
  *step(x, state) {
    const { n, T } = this.config;
    for (let recursion = 1; recursion <= T; recursion++) {
      for (let call = 1; call <= n; call++) {
        state.z = yield* this.net(add(x, state.y, state.z));
        yield { recursion, call, changed: "z" };
      }
      state.y = yield* this.net(add(state.y, state.z));
      yield { recursion, call: n + 1, changed: "y" };
    }
  }

  // The scores of every token in every cell, read from y (or from z, to see what it would answer).
  logits(y) {
    return product(this.weights["output_head.weight"], y, y.length / this.channels, this.config.vocabulary, this.channels);
  }

  // The token with the highest score in each cell.
  answer(y) {
    const logits = this.logits(y), kinds = this.config.vocabulary;
    return Uint8Array.from({ length: logits.length / kinds }, (_, cell) => {
      const scores = logits.subarray(cell * kinds, (cell + 1) * kinds);
      return scores.indexOf(Math.max(...scores));
    });
  }

  // How sure it is of its whole answer, as a logit: as sure as in its least sure cell.
  q(y) {
    const weight = this.weights["halting_head.weight"].subarray(0, this.channels), bias = this.weights["halting_head.bias"][0];
    return product(weight, y, y.length / this.channels, 1, this.channels).reduce((least, value) => Math.min(least, value), Infinity) + bias;
  }
}
