package cards

import (
	_ "embed" // of the scripts
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"strings"
	"sync"
)

//go:generate sh -c "cd vega && ./update.sh"

var (
	//go:embed vega/vega.min.js
	vegaScript string
	//go:embed vega/vega-lite.min.js
	vegaLiteScript string
	//go:embed vega/vega-interpreter.js
	vegaInterpreterScript string
	//go:embed vega/draw.js
	vegaDrawScript string
)

const maxSpecBytes = 4 << 20

// VegaLite shows a chart that a Vega-Lite specification describes (https://vega.github.io/vega-lite/), for what [Plot] does not
// draw. The card then has the programs that draw it in it, about 800 kB, and runs these and nothing else; it loads nothing, so
// that data must be in the specification (data.values): one with an address (data.url) is refused. Without a width it is as wide
// as the card. Colours follow the page unless the specification says otherwise.
type VegaLite struct {
	// Title says what the chart shows. Defaults to none.
	Title string
	// Alt is what a screen reader says in place of the chart. Defaults to the specification's description, or else the title.
	Alt string
	// Spec is the specification: text (a string, []byte or json.RawMessage), or anything that encoding/json writes as one.
	Spec any
}

var vegaFigure = template.Must(template.New("vega").Parse(
	`<figure class="vega wide" data-vega="{{.Spec}}">{{with .Title}}<figcaption>{{.}}</figcaption>{{end}}` +
		`<div class="view" role="img" aria-label="{{.Alt}}"><p class="quiet">The chart is drawn here by a script of this page.</p></div></figure>`))

// CardHTML implements [flow.Component].
func (v VegaLite) CardHTML() template.HTML {
	spec, alt, err := v.read()
	if err != nil {
		return note("the chart %q could not be shown: %v", label(v.Title), err)
	}
	for _, text := range []string{v.Alt, alt, v.Title, "chart"} {
		if alt = label(text); alt != "" {
			break
		}
	}
	return execute(vegaFigure, struct{ Spec, Title, Alt string }{spec, label(v.Title), alt})
}

// read returns the specification as text, and its description.
func (v VegaLite) read() (text, description string, err error) {
	var raw []byte
	switch s := v.Spec.(type) {
	case string:
		raw = []byte(s)
	case []byte:
		raw = s
	default:
		if raw, err = json.Marshal(v.Spec); err != nil {
			return "", "", err
		}
	}
	if len(raw) > maxSpecBytes {
		return "", "", fmt.Errorf("its specification has %s, at most %s fit on a card (aggregate the data first)", bytes(int64(len(raw))), bytes(maxSpecBytes))
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return "", "", fmt.Errorf("its specification is no JSON object: %w", err)
	}
	if schema, _ := spec["$schema"].(string); schema != "" && !strings.Contains(schema, "vega-lite") {
		return "", "", fmt.Errorf("its specification is one of %q (only Vega-Lite is drawn)", schema)
	}
	if err := noAddress(spec); err != nil {
		return "", "", err
	}
	description, _ = spec["description"].(string)
	if raw, err = json.Marshal(spec); err != nil {
		return "", "", err
	}
	return string(raw), description, nil
}

// noAddress refuses data from elsewhere, at whatever depth. The page could not load it anyhow, but would not say why.
func noAddress(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if key == "values" {
				continue // rows of data, in which a column may have any name
			}
			if data, ok := value.(map[string]any); ok && key == "data" {
				if _, ok := data["url"]; ok {
					return errors.New("its data is at an address, and a card loads nothing (put the rows into data.values)")
				}
			}
			if err := noAddress(value); err != nil {
				return err
			}
		}
	case []any:
		for _, value := range v {
			if err := noAddress(value); err != nil {
				return err
			}
		}
	}
	return nil
}

// usesVega says that a component is a chart for the scripts. What is rendered in another process is text, so the text is looked at.
func usesVega(components []template.HTML) bool {
	for _, c := range components {
		if strings.Contains(string(c), ` data-vega="`) {
			return true
		}
	}
	return false
}

// Scripts are the digests of the scripts with which a card draws charts, each as a Content-Security-Policy names it:
// 'sha256-…'. Whoever serves stored cards allows these and no others.
func Scripts() []string {
	var all []string
	for _, s := range vegaScripts() {
		all = append(all, digest(s))
	}
	return all
}

func vegaScripts() []string {
	return []string{vegaScript, vegaLiteScript, vegaInterpreterScript, vegaDrawScript}
}

var vegaPolicy = sync.OnceValue(func() string { return contentPolicy(styleSheet, vegaScripts()...) })

var vegaElements = sync.OnceValue(func() []template.HTML {
	var all []template.HTML
	for _, s := range vegaScripts() {
		all = append(all, template.HTML("<script>"+s+"</script>")) //nolint:gosec // constants of this package
	}
	return all
})
