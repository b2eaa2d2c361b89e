"""The style sheet of the report."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #17191f; --soft: #626874; --rule: #e3e6eb; --accent: #2f5bea;
  --bar: #2f5bea2e;
  --line-0: #2f5bea; --line-1: #e2662b; --line-2: #16966a; --line-3: #b143c9;
  --line-4: #c99700; --line-5: #0d93b8; --line-6: #d6336c; --line-7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1115; --card: #181b21; --ink: #e8eaee; --soft: #9aa1ad; --rule: #2a2f38; --accent: #7d9bff;
    --bar: #7d9bff3d;
    --line-0: #7d9bff; --line-1: #ff9463; --line-2: #45cf9c; --line-3: #d98bf0;
    --line-4: #eec44b; --line-5: #4cc5e6; --line-6: #ff7fab; --line-7: #9aa1ad;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  -webkit-font-smoothing: antialiased;
}
main { max-width: 1120px; margin: 0 auto; padding: 48px 24px 72px; }
header { margin-bottom: 32px; }
h1 {
  font-size: clamp(26px, 4vw, 36px); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 6px;
  overflow-wrap: anywhere;
}
h2 { font-size: 18px; letter-spacing: -0.01em; margin: 44px 0 14px; }
.subtitle { color: var(--soft); margin: 0; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px;
  margin-top: 28px;
}
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 14px; padding: 16px 18px; }
.tile b {
  display: block; font-size: 32px; line-height: 1.1; letter-spacing: -0.03em;
  font-variant-numeric: tabular-nums;
}
.tile span { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.tile.main b { color: var(--accent); }
.card {
  background: var(--card); border: 1px solid var(--rule); border-radius: 14px; padding: 6px 18px;
  overflow-x: auto;
}
.card + .card { margin-top: 14px; }
dl {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); column-gap: 36px;
  margin: 0;
}
dl div {
  display: flex; gap: 16px; justify-content: space-between; padding: 9px 0;
  border-bottom: 1px solid var(--rule);
}
dt { color: var(--soft); white-space: nowrap; }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 12px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
tr:last-child td, tr:last-child th { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 600; }
td.bar {

  background: linear-gradient(to right, var(--bar) var(--share), transparent var(--share)) no-repeat 0 50% / 100% 62%;
}
.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px;
}
figure { margin: 0; }
.chart {
  background: var(--card); border: 1px solid var(--rule); border-radius: 14px;
  padding: 16px 18px 12px;
}
.chart figcaption { font-weight: 600; margin-bottom: 8px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.legend {
  display: flex; flex-wrap: wrap; gap: 4px 18px; color: var(--soft); font-size: 13px;
  margin-top: 8px;
}
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 7px; }
.legend b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.pictures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 18px 14px;
}
.pictures img {
  display: block; width: 100%; height: auto; border-radius: 12px; border: 1px solid var(--rule);
  cursor: zoom-in;
}
.pictures input { position: absolute; opacity: 0; pointer-events: none; }
.pictures input:focus-visible + img { outline: 3px solid var(--accent); }
.pictures input:checked + img {
  position: fixed; inset: 0; width: 100%; height: 100%; object-fit: contain; z-index: 1; cursor: zoom-out;
  background: #000000e8; border: 0; border-radius: 0;
}
.pictures figcaption { color: var(--soft); font-size: 13px; margin-top: 7px; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: 13px; margin-top: 48px; }
@media print { body { background: #fff; } .card, .chart, .tile, figure { break-inside: avoid; } }
"""
"""CSS that needs nothing from elsewhere: system fonts, a light and a dark look, one column on narrow screens."""
