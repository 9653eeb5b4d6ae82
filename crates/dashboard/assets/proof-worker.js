// Solves the challenge of a ticket in the background of a page: post it the JSON of GET /api/v1/sales/{id}/challenge, and it posts the
// text for `altcha` back, or null when the challenge has no solution. With `progress: true` beside the challenge's own members it also posts
// { tried }, the count of numbers tried so far. To cancel, terminate the worker. It has a SHA-256 of its own, since crypto.subtle is missing on pages
// that came over plain HTTP, and waits for every hash.
"use strict";

const K = new Int32Array(64);
const START = new Uint32Array(8);
// The first 32 bits of the fractions of the roots of the first primes, as FIPS 180-4 defines them.
{
  const fraction = (root) => ((root - Math.floor(root)) * 0x100000000) | 0;
  let count = 0;
  for (let n = 2; count < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) prime &&= n % d !== 0;
    if (!prime) continue;
    if (count < 8) START[count] = fraction(Math.sqrt(n));
    K[count++] = fraction(Math.cbrt(n));
  }
}

const rotate = (x, n) => (x >>> n) | (x << (32 - n));
const W = new Int32Array(64);

// One block of 64 bytes into the state.
function block(state, view, at) {
  for (let i = 0; i < 16; i++) W[i] = view.getInt32(at + i * 4);
  for (let i = 16; i < 64; i++) {
    const s0 = rotate(W[i - 15], 7) ^ rotate(W[i - 15], 18) ^ (W[i - 15] >>> 3);
    const s1 = rotate(W[i - 2], 17) ^ rotate(W[i - 2], 19) ^ (W[i - 2] >>> 10);
    W[i] = (W[i - 16] + s0 + W[i - 7] + s1) | 0;
  }
  let a = state[0] | 0, b = state[1] | 0, c = state[2] | 0, d = state[3] | 0;
  let e = state[4] | 0, f = state[5] | 0, g = state[6] | 0, h = state[7] | 0;
  for (let i = 0; i < 64; i++) {
    const t1 = (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
    const t2 = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

// The SHA-256 of a text, as hexadecimal digits.
function sha256(text) {
  const bytes = new TextEncoder().encode(text);
  const padded = new Uint8Array(((bytes.length + 8) >> 6 << 6) + 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, bytes.length * 8);
  const state = START.slice();
  for (let at = 0; at < padded.length; at += 64) block(state, view, at);
  return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
}

// Numbers between two reports.
const REPORT_EVERY = 5000;

function solve({ algorithm, challenge, maxnumber, salt, signature, progress = false }) {
  for (let number = 0; number <= maxnumber; number++) {
    if (progress && number % REPORT_EVERY === 0) self.postMessage({ tried: number });
    if (sha256(salt + number) === challenge) {
      return btoa(JSON.stringify({ algorithm, challenge, number, salt, signature }));
    }
  }
  return null;
}

self.onmessage = ({ data }) => self.postMessage(solve(data));
