// Copyright 2026 The DeepRS Authors
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//     http://www.apache.org/licenses/LICENSE-2.0
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
"use strict";

// The slice viewers of a report. `viewer.py` packs the volumes and says which layers make a panel.

const WIDTH = 480; // pixels of a panel; the page shrinks it
const LETTER = 34; // pixels of the letters at its edges
const GRID_LINES = 16;
const TILES = 8;

const colors = JSON.parse(document.getElementById("viewer-colors").textContent);
const tables = Object.fromEntries(Object.entries(colors.tables).map(([name, text]) => [name, decode(text)]));

function decode(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function inflate(text) {
  const stream = new Blob([decode(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpack(id) {
  const example = JSON.parse(document.getElementById(id).textContent);
  const volumes = Object.entries(example.volumes).map(async ([name, text]) => [name, await inflate(text)]);
  return { ...example, volumes: Object.fromEntries(await Promise.all(volumes)) };
}

// One slice: how large it is, what lies at its edges, and the bytes of any volume in it, row by row from the bottom.
class Slice {
  constructor(example, plane, fraction) {
    const { axes, flipped, letters } = example.planes[plane];
    const [right, up, through] = axes;
    const { shape, spacing } = example;
    const strides = [shape[1] * shape[2], shape[2], 1].map((step, axis) => (flipped[axes.indexOf(axis)] ? -step : step));
    const first = axes.filter((_, at) => flipped[at]).map((axis) => (1 - shape[axis]) * strides[axis]);
    this.example = example;
    this.letters = letters;
    this.axes = [right, up];
    this.signs = flipped.map((turned) => (turned ? -1 : 1));
    this.size = [shape[right], shape[up]];
    this.spacing = [spacing[right], spacing[up]];
    this.steps = [strides[right], strides[up]];
    this.start = Math.round(fraction * (shape[through] - 1)) * strides[through] + first.reduce((a, b) => a + b, 0);
  }

  bytes(name) {
    const [width, height] = this.size;
    const volume = this.example.volumes[name];
    const values = new Uint8Array(width * height);
    for (let j = 0, at = 0; j < height; j++)
      for (let i = 0; i < width; i++, at++) values[at] = volume[this.start + i * this.steps[0] + j * this.steps[1]];
    return values;
  }
}

// Calls `line(x0, y0, x1, y1)`, in voxels, along every curve where `values` are `offset` plus a multiple of `step`:
// marching squares between the centres of neighbouring voxels.
function contour(values, [width, height], offset, step, line) {
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1]];
  for (let j = 0; j + 1 < height; j++)
    for (let i = 0; i + 1 < width; i++) {
      const at = corners.map(([x, y]) => (values[(j + y) * width + i + x] - offset) / step);
      for (let level = Math.ceil(Math.min(...at)); level <= Math.max(...at); level++) {
        const ends = [];
        for (let k = 0; k < 4; k++) {
          const [a, b] = [at[k] - level, at[(k + 1) % 4] - level];
          if ((a < 0) === (b < 0)) continue;
          const [[x0, y0], [x1, y1]] = [corners[k], corners[(k + 1) % 4]];
          ends.push([i + 0.5 + x0 + (a / (a - b)) * (x1 - x0), j + 0.5 + y0 + (a / (a - b)) * (y1 - y0)]);
        }
        for (let k = 0; k + 1 < ends.length; k += 2) line(...ends[k], ...ends[k + 1]);
      }
    }
}

function stroke(context, values, slice, offset, step, color, thickness) {
  const scale = slice.size.map((voxels, axis) => (axis ? context.canvas.height : context.canvas.width) / voxels);
  context.beginPath();
  contour(values, slice.size, offset, step, (x0, y0, x1, y1) => {
    context.moveTo(x0 * scale[0], context.canvas.height - y0 * scale[1]);
    context.lineTo(x1 * scale[0], context.canvas.height - y1 * scale[1]);
  });
  context.strokeStyle = color;
  context.lineWidth = thickness;
  context.lineCap = "round";
  context.stroke();
}

// Draws one byte for each voxel in the colours of a table.
function paint(context, bytes, slice, table, { smooth = false, opacity = 1 } = {}) {
  const [width, height] = slice.size;
  const picture = new ImageData(width, height);
  bytes.forEach((byte, at) => {
    const flipped = (height - 1 - Math.floor(at / width)) * width + (at % width);
    picture.data.set(table.subarray(4 * byte, 4 * byte + 4), 4 * flipped);
  });
  const small = new OffscreenCanvas(width, height);
  small.getContext("2d").putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.globalAlpha = opacity;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
  context.globalAlpha = 1;
}

const LAYERS = {
  map(context, slice, color, name) {
    const options = { gray: { smooth: true }, dimmed: { smooth: true, opacity: 0.65 } }[color];
    paint(context, slice.bytes(name), slice, tables[options ? "gray" : color], options);
  },

  // As bright as each other: the middle of the colours. Half the range of intensities apart: their ends.
  difference(context, slice, color, ...names) {
    const [one, other] = names.map((name) => slice.bytes(name));
    const middle = (byte, at) => Math.max(0, Math.min(255, Math.round(127.5 + byte - other[at])));
    paint(context, one.map(middle), slice, tables[color]);
  },

  checkerboard(context, slice, color, ...names) {
    const [one, other] = names.map((name) => slice.bytes(name));
    const [width, height] = slice.size;
    const tile = Math.max(width * slice.spacing[0], height * slice.spacing[1]) / TILES;
    const place = (index, axis) => Math.floor(((index + 0.5) * slice.spacing[axis]) / tile);
    const pick = (byte, at) => ((place(at % width, 0) + place(Math.floor(at / width), 1)) % 2 ? other[at] : byte);
    paint(context, one.map(pick), slice, tables[color], { smooth: true });
  },

  outline(context, slice, color, name) {
    const classes = slice.bytes(name);
    for (const structure of new Set(classes)) {
      if (structure === 0) continue;
      const inside = classes.map((byte) => (byte === structure ? 1 : 0));
      const own = colors.structures[(structure - 1) % colors.structures.length];
      if (color === "white") stroke(context, inside, slice, 0.5, 1, "white", 1.8);
      else stroke(context, inside, slice, 0.5, 1, own, 5);
    }
  },

  // The moving image's regular grid after the warp: the curves on which a sampling coordinate p + ddf(p) is constant.
  grid(context, slice, color, ...names) {
    const [width, height] = slice.size;
    const step = Math.max(width * slice.spacing[0], height * slice.spacing[1]) / GRID_LINES;
    context.fillStyle = "white";
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    slice.axes.forEach((axis, direction) => {
      const displacement = slice.bytes(names[axis]);
      const coordinate = Float64Array.from(displacement, (byte, at) => {
        const index = direction ? Math.floor(at / width) : at % width;
        const moved = (slice.signs[direction] * slice.example.limit * (byte - 128)) / 127;
        return index * slice.spacing[direction] + moved;
      });
      stroke(context, coordinate, slice, 0, step, "#1b1f24", 1.5);
    });
  },
};

// The sides of the patient at the left, right, bottom and top; with a dark rim, to be read on white too.
function drawLetters(canvas, letters) {
  canvas.dataset.letters = (letters || []).join("");
  if (!letters) return;
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const places = [
    [6, height / 2, "left", "middle"],
    [width - 6, height / 2, "right", "middle"],
    [width / 2, height - 6, "center", "bottom"],
    [width / 2, 6, "center", "top"],
  ];
  context.font = `600 ${LETTER}px system-ui, sans-serif`;
  context.lineJoin = "round";
  context.lineWidth = 7;
  context.strokeStyle = "black";
  context.fillStyle = "white";
  letters.forEach((letter, side) => {
    const [x, y, align, baseline] = places[side];
    context.textAlign = align;
    context.textBaseline = baseline;
    context.strokeText(letter, x, y);
    context.fillText(letter, x, y);
  });
}

function drawPanel(panel, slice, before) {
  const canvas = panel.querySelector("canvas");
  const [across, up] = slice.size.map((voxels, axis) => voxels * slice.spacing[axis]);
  canvas.width = WIDTH;
  canvas.height = Math.max(1, Math.round((WIDTH * up) / across));
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, canvas.width, canvas.height);
  const shown = (name) => (before && "follows" in panel.dataset ? name.replace("warped", "moving") : name);
  for (const [kind, color, ...names] of JSON.parse(panel.dataset.layers))
    LAYERS[kind](context, slice, color, ...names.map(shown));
  drawLetters(canvas, slice.letters);
}

// One viewer: its controls, and a column of panels for each run. All columns show the same fraction of their volumes.
function startViewer(viewer) {
  const slider = viewer.querySelector(".slice");
  const before = viewer.querySelector(".before");
  const runs = Array.from(viewer.querySelectorAll(".run"));
  const examples = new Map();
  const fractions = {};

  const plane = () => viewer.querySelector("[type=radio]:checked").value;

  function draw() {
    const last = Number(slider.max);
    fractions[plane()] = last ? Number(slider.value) / last : 0;
    viewer.querySelector("output").textContent = `${Number(slider.value) + 1} of ${last + 1}`;
    for (const run of runs) {
      const slice = new Slice(examples.get(run), plane(), fractions[plane()]);
      for (const panel of run.querySelectorAll("figure")) drawPanel(panel, slice, before !== null && before.checked);
    }
    viewer.dataset.drawn = `${plane()} ${slider.value}`;
  }

  function turn() {
    const { shape, center, planes } = examples.get(runs[0]);
    const { axes, flipped } = planes[plane()];
    const through = axes[2];
    const last = shape[through] - 1;
    const middle = flipped[2] ? last - center[through] : center[through];
    slider.max = last;
    slider.value = plane() in fractions ? Math.round(fractions[plane()] * last) : middle;
    draw();
  }

  async function choose(run) {
    examples.set(run, await unpack(run.querySelector("select").value));
    if (examples.size === runs.length) turn();
  }

  slider.addEventListener("input", draw);
  if (before) before.addEventListener("change", draw);
  viewer.querySelectorAll("[type=radio]").forEach((button) => button.addEventListener("change", turn));
  for (const run of runs) {
    run.querySelector("select").addEventListener("change", () => choose(run));
    choose(run);
  }
}

document.querySelectorAll(".viewer").forEach(startViewer);
