// Draws the charts from the numbers in the page, in the colours of its style sheet.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 560px)");
  const touch = matchMedia("(pointer: coarse)");
  const middle = data.start.map((start) => start + 0.5);
  const end = data.start.map((start) => start + 1);

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // Gaps stay gaps; a point on its own has no line, so short runs get markers.
  const line = (name, x, y, ink, more) => ({
    type: "scatter",
    mode: x.length <= 120 ? "lines+markers" : "lines",
    name, x, y,
    line: { color: ink, width: 2.5, ...more?.line },
    marker: { color: ink, size: 5, ...more?.marker },
    hovertemplate: "%{y:,.0f}",
    ...more?.trace,
  });

  const peakTraces = () => {
    const traces = [
      {
        type: "bar", name: "arrivals/s", x: middle, y: data.sent, width: 1,
        marker: { color: colour("arrivals"), line: { color: colour("card"), width: data.sent.length <= 120 ? 1 : 0 } },
        hovertemplate: "%{y:,.0f}",
      },
      line("commits/s", middle, data.commits, colour("commits"), { line: { width: 3.5 } }),
      line("backlog", end, data.backlog, colour("backlog"), {
        trace: { yaxis: "y2", fill: "tozeroy" },
        marker: { symbol: "diamond" },
      }),
    ];
    // A few requests cross from one second into the next in any run; those are not worth a line.
    const peak = data.due.reduce((most, due) => Math.max(most, due), 0);
    if (data.due.some((due, at) => Math.abs(due - data.sent[at]) > peak / 50)) {
      const style = { line: { width: 1.5, dash: "dot", shape: "hvh" }, trace: { mode: "lines" } };
      traces.push(line("meant to arrive/s", middle, data.due, colour("text"), style));
    }
    return traces;
  };

  const latencyTraces = () => [
    line("p99", middle, data.p99_ms, colour("commits"), { trace: { hovertemplate: "%{y:,.3~g} ms" } }),
    line("p50", middle, data.p50_ms, colour("middle"), {
      line: { dash: "dash" },
      marker: { symbol: "square" },
      trace: { hovertemplate: "%{y:,.3~g} ms" },
    }),
  ];

  const axis = (more) => ({
    gridcolor: colour("line"),
    zerolinecolor: colour("line"),
    linecolor: colour("line"),
    tickcolor: colour("line"),
    automargin: true,
    // A finger that moves over a chart scrolls the page.
    fixedrange: touch.matches,
    ...more,
  });

  const layout = (more) => ({
    font: { family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 13, color: colour("text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: narrow.matches ? 44 : 60, r: 8, t: 8, b: 40 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") } },
    dragmode: touch.matches ? false : "zoom",
    bargap: 0,
    ...more,
  });

  const seconds = (more) => axis({
    title: { text: "seconds from the start", standoff: 8 },
    range: data.start.length ? [data.start[0], end[end.length - 1]] : undefined,
    showgrid: false,
    ...more,
  });

  const charts = {
    peak: () => [peakTraces(), layout({
      xaxis: seconds({ anchor: "y2", hoverformat: ".1f" }),
      yaxis: axis({ domain: [0.42, 1], rangemode: "tozero", title: { text: "per second" }, tickformat: ",~s" }),
      yaxis2: axis({ domain: [0, 0.32], rangemode: "tozero", title: { text: "backlog" }, tickformat: ",~s" }),
    })],
    latency: () => [latencyTraces(), layout({
      xaxis: seconds({ hoverformat: ".1f" }),
      yaxis: axis({ type: "log", title: { text: "ms" }, tickformat: ",~r", dtick: "D2" }),
    })],
  };
  const config = { responsive: true, displayModeBar: false, displaylogo: false };

  const draw = () => {
    for (const [id, chart] of Object.entries(charts)) {
      Plotly.react(id, ...chart(), config);
    }
  };
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
})();
