package cards

import (
	stdbytes "bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"reflect"
	"strings"
)

const (
	maxTreeNodes = 5000 // that are shown
	maxTreeDepth = 100
	maxTreeParts = 1 << 20 // of a value that is turned into JSON
)

// JSON shows a value as a tree whose parts can be opened and closed. It shows at most 5,000 parts and says how many it leaves out.
type JSON struct {
	// Title says what the value is. Defaults to none.
	Title string
	// Value is anything that encoding/json can write. A json.RawMessage, or a []byte that is JSON, is shown as what it says.
	Value any
}

// CardHTML implements [flow.Component].
func (j JSON) CardHTML() template.HTML {
	root, err := treeOf(j.Value)
	if err != nil {
		return note("the value %q could not be shown: %v", label(j.Title), err)
	}
	return execute(jsonText, struct {
		Title string
		Tree  template.HTML
	}{label(j.Title), root.html()})
}

var jsonText = template.Must(template.New("json").Parse(`<div class="json">{{with .Title}}<h3>{{.}}</h3>{{end}}{{.Tree}}</div>`))

// treeNode is a value in a tree.
type treeNode struct {
	Key      string
	HasKey   bool
	Text     string // of a value without parts
	Summary  string // of one with parts
	Children []*treeNode
	Count    int // of parts, shown or not
	Open     bool
}

// More is how many parts are left out, "" if none are.
func (n *treeNode) More() string { return some(n.Count - len(n.Children)) }

var treeText = template.Must(template.New("tree").Parse(
	`{{define "key"}}{{if .HasKey}}<span class="key">{{.Key}}</span> {{end}}{{end}}` +
		`{{define "node"}}{{if .Summary}}<details{{if .Open}} open{{end}}><summary>{{template "key" .}}<span class="quiet">{{.Summary}}</span></summary>` +
		`<ul>{{range .Children}}<li>{{template "node" .}}</li>{{end}}{{with .More}}<li class="quiet">… and {{.}} more</li>{{end}}</ul></details>` +
		`{{else}}{{template "key" .}}<code>{{.Text}}</code>{{end}}{{end}}` +
		`<div class="tree">{{template "node" .}}</div>`))

func (n *treeNode) html() template.HTML { return execute(treeText, n) }

// treeOf reads a value the way JSON has it.
func treeOf(v any) (*treeNode, error) {
	text, ok := v.([]byte)
	if !ok || !json.Valid(text) {
		if room := maxTreeParts; v != nil && !fits(reflect.ValueOf(v), &room) {
			return nil, fmt.Errorf("a %T that is too large", v)
		}
		var err error
		if text, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	r := treeReader{dec: json.NewDecoder(stdbytes.NewReader(text)), room: maxTreeNodes}
	r.dec.UseNumber()
	root, err := r.value(0)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return root, err
}

// treeReader reads tokens, because a map would lose their order.
type treeReader struct {
	dec  *json.Decoder
	room int
}

func (r *treeReader) value(depth int) (*treeNode, error) {
	if depth > maxTreeDepth {
		return nil, fmt.Errorf("it is deeper than %d levels", maxTreeDepth)
	}
	token, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	r.room--
	n := &treeNode{}
	delim, ok := token.(json.Delim)
	if !ok {
		n.Text = scalar(token)
		return n, nil
	}
	for r.dec.More() {
		key := ""
		if delim == '{' {
			token, err := r.dec.Token()
			if err != nil {
				return nil, err
			}
			key, _ = token.(string)
		}
		shows := r.room > 0
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if delim == '{' {
			child.Key, child.HasKey = label(key), true
		}
		if n.Count++; shows {
			n.Children = append(n.Children, child)
		}
	}
	if _, err := r.dec.Token(); err != nil {
		return nil, err
	}
	switch {
	case n.Count == 0:
		n.Text = map[json.Delim]string{'{': "{}", '[': "[]"}[delim]
	case delim == '{':
		n.Summary = plural(n.Count, "field")
	default:
		n.Summary = plural(n.Count, "item")
	}
	n.Open = depth == 0 || depth == 1 && n.Count <= 10
	return n, nil
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return Count(n) + " " + noun
}

// scalar writes a value without parts as JSON has it, so that "1" and 1 can be told apart.
func scalar(token json.Token) string {
	s, ok := token.(string)
	if !ok {
		if token == nil {
			return "null"
		}
		return shown(fmt.Sprint(token), maxCellRunes)
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(shown(s, maxCellRunes)); err != nil { // it is a string, which can be written
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}
