"use strict";
// Draws the charts of a card. The page's policy allows no eval, which is why the interpreter evaluates the expressions, and no
// requests, which the loader refuses before the browser does.
(function () {
  function refuse() { return Promise.reject(new Error("a card loads nothing from elsewhere")); }
  var loader = { options: {}, load: refuse, sanitize: refuse, http: refuse, file: refuse };

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function config() {
    var quiet = color("quiet"), series = ["s1", "s2", "s3", "s4", "s5", "s6"].map(color);
    return {
      background: "transparent",
      font: "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif",
      view: { stroke: "transparent" },
      axis: {
        labelColor: quiet, titleColor: quiet, tickColor: color("axis"), domainColor: color("axis"), gridColor: color("grid"),
        titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 12,
      },
      legend: { labelColor: quiet, titleColor: quiet, titleFontWeight: "normal" },
      header: { labelColor: quiet, titleColor: quiet },
      title: { color: color("text"), subtitleColor: quiet },
      mark: { color: series[0] }, rule: { color: quiet }, text: { color: color("text") },
      range: { category: series },
    };
  }

  function draw(figure) {
    var place = figure.querySelector(".view");
    try {
      var spec = JSON.parse(figure.getAttribute("data-vega"));
      if (spec.width === undefined && (spec.mark || spec.layer)) {
        spec.width = "container";
        spec.autosize = spec.autosize || { type: "fit-x", contains: "padding" };
      }
      var compiled = vegaLite.compile(spec, { config: config(), logger: vega.logger(vega.Error) }).spec;
      if (figure.view) figure.view.finalize();
      place.textContent = "";
      figure.view = new vega.View(vega.parse(compiled, null, { ast: true }), {
        expr: vegaInterpreter.expressionInterpreter, loader: loader, renderer: "svg", container: place, hover: true, logLevel: vega.Error,
      });
      figure.view.runAsync().catch(function (err) { fail(place, err); });
    } catch (err) {
      fail(place, err);
    }
  }

  function fail(place, err) {
    var p = document.createElement("p");
    p.className = "note";
    p.textContent = "The chart could not be drawn: " + err.message;
    place.replaceChildren(p);
  }

  function all() { document.querySelectorAll("[data-vega]").forEach(draw); }
  all();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
})();
