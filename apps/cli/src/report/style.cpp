// SPDX-License-Identifier: Apache-2.0
#include "page.hpp"

namespace switchyard::cli::report {
namespace {

// Every colour of a series has a contrast of 4.5 or more to the page and to the words on it.
constexpr std::string_view kStyle = R"css(
:root{color-scheme:light dark;
--bg:#fff;--fg:#1b1f24;--muted:#57606a;--rule:#d8dee4;--card:#f5f7f9;--on:#fff;
--c0:#0b62a8;--c1:#c2410c;--c2:#0f766e;--c3:#8b2fa0;--c4:#8a5a00;--c5:#be185d;--c6:#4d7c0f;--c7:#6b7280}
@media(prefers-color-scheme:dark){:root{
--bg:#0f1419;--fg:#e6edf3;--muted:#a3adb8;--rule:#2f3842;--card:#19212a;--on:#0f1419;
--c0:#6cb6ff;--c1:#ff9b63;--c2:#4fd1b5;--c3:#d2a8ff;--c4:#e3b341;--c5:#ff8fb8;--c6:#a5d76e;--c7:#9aa5b1}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}
header{border-bottom:1px solid var(--rule);padding-bottom:1rem;margin-bottom:1rem}
.kicker{margin:0;color:var(--muted);font-size:.875rem}
h1{font-size:1.25rem;line-height:1.3;margin:.25rem 0 .5rem}
.lead{font-size:1.25rem;line-height:1.4;margin:.5rem 0;max-width:48rem}
h2{font-size:1.25rem;margin:2.5rem 0 .25rem}
h3{font-size:1rem;margin:0 0 .25rem}
.note{color:var(--muted);margin:0 0 .75rem;font-size:.9rem;max-width:48rem}
svg{display:block;width:100%;height:auto;font-family:system-ui,sans-serif}
svg.narrow{display:none}
svg.key{width:1rem;height:1rem;flex:none}
.t,.l{font-size:12px;paint-order:stroke;stroke:var(--bg);stroke-width:3px;stroke-linejoin:round}
.t{fill:var(--muted)}.l{fill:var(--fg);font-weight:600}
.on{fill:var(--on);font-size:12px;font-weight:600}
.grid,.row{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--muted);stroke-width:1}
.cross{stroke:var(--muted);stroke-width:1;stroke-dasharray:4 3}
.roof{stroke:var(--fg);stroke-width:1.5}
.plate{fill:var(--bg)}.line{fill:none;stroke-width:2}.m{stroke:var(--bg);stroke-width:1}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}
.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}
.c0,.f0{fill:var(--c0)}.c1,.f1{fill:var(--c1)}.c2,.f2{fill:var(--c2)}.c3,.f3{fill:var(--c3)}
.c4,.f4{fill:var(--c4)}.c5,.f5{fill:var(--c5)}.c6,.f6{fill:var(--c6)}.c7,.f7{fill:var(--c7)}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;margin:0 0 .5rem;padding:0;
font-size:.875rem}
.legend li{display:flex;align-items:center;gap:.375rem}
details{margin:.5rem 0;border:1px solid var(--rule);border-radius:6px;background:var(--card)}
summary{cursor:pointer;padding:.5rem .75rem;font-size:.9rem}
summary:focus-visible{outline:2px solid var(--c0);outline-offset:2px}
details>:not(summary){margin:.25rem .75rem .75rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.375rem .75rem .375rem 0;
border-bottom:1px solid var(--rule);overflow-wrap:break-word}
th{color:var(--muted);font-weight:600}
.r{text-align:right}
code,pre{font:.8125rem/1.5 ui-monospace,monospace}
pre{white-space:pre-wrap;margin:.5rem 0 0;padding:.5rem .75rem;background:var(--bg);
border:1px solid var(--rule);border-radius:6px}
.advice{background:var(--card);border-left:4px solid var(--c0);border-radius:0 6px 6px 0;
padding:.75rem 1rem;margin:.75rem 0}
.advice p{margin:0;font-size:.9rem;color:var(--muted)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
figure{margin:0}
figure img{display:block;width:100%;height:auto;border-radius:4px}
figcaption{font-size:.875rem;color:var(--muted);margin-top:.25rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;font-size:.875rem;margin:0}
dt{color:var(--muted)}dd{margin:0}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--rule);color:var(--muted);
font-size:.875rem}
@media(max-width:40rem){
svg.wide{display:none}svg.narrow{display:block}
.pair{grid-template-columns:1fr}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}
.cards thead{display:none}
.cards tr{display:block;border-bottom:1px solid var(--rule);padding:.5rem 0}
.cards td{display:flex;gap:1rem;justify-content:space-between;border:0;padding:.125rem 0;
text-align:right}
.cards td::before{content:attr(data-label);color:var(--muted);text-align:left;flex:none}
.cards td:first-child{font-weight:600}
.cards td:empty{display:none}}
@media print{details{border:0}svg{break-inside:avoid}}
)css";

}  // namespace

std::string_view style() noexcept { return kStyle; }

}  // namespace switchyard::cli::report
