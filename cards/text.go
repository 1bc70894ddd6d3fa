package cards

import (
	"fmt"
	"html/template"
	"reflect"
	"strings"

	"github.com/stepwell-flows/stepwell/policies"
)

// Log shows lines of text in the order in which they were written, such as the output of a program. Of more than 500 lines it
// shows the last. What [flow.Log] writes is on the default card without this.
type Log struct {
	// Title says whose lines these are.
	Title string
	Lines []string
}

var logText = template.Must(template.New("log").Parse(
	`<div class="lines">{{with .Title}}<h3>{{.}}</h3>{{end}}{{with .Earlier}}<p class="quiet">{{.}} earlier lines are left out.</p>{{end}}` +
		`<pre class="log scroll" tabindex="0" role="region" aria-label="{{.Name}}">{{.Text}}</pre></div>`))

// CardHTML implements [flow.Component].
func (l Log) CardHTML() template.HTML {
	earlier := max(0, len(l.Lines)-maxLogLines)
	lines := make([]string, 0, len(l.Lines)-earlier)
	for _, line := range l.Lines[earlier:] {
		lines = append(lines, shown(strings.TrimRight(line, "\r\n"), maxLineRunes))
	}
	name := label(l.Title)
	if name == "" {
		name = "log"
	}
	return execute(logText, struct{ Title, Name, Text, Earlier string }{label(l.Title), name, strings.Join(lines, "\n"), some(earlier)})
}

// Error shows an error that the step has dealt with itself. What ends a task is on the default card without this.
type Error struct {
	// Title says what was tried. Defaults to none.
	Title string
	// Err is shown with its type. If it is or wraps a [policies.Failure], its class and stack are shown as well.
	Err error
	// Stack is where it happened, such as debug.Stack returns it. Defaults to that of the failure.
	Stack string
}

var errorText = template.Must(template.New("error").Parse(
	`<div class="error">{{with .Title}}<h3>{{.}}</h3>{{end}}` +
		`<p class="kind">{{with .Class}}<span class="tag">{{.}}</span>{{end}}{{with .Type}}<code>{{.}}</code>{{end}}</p>` +
		`<pre class="message">{{.Message}}</pre>` +
		`{{with .Stack}}<details><summary>Stack</summary><pre tabindex="0" class="scroll" role="region" aria-label="Stack">{{.}}</pre></details>{{end}}</div>`))

// CardHTML implements [flow.Component].
func (e Error) CardHTML() template.HTML {
	if e.Err == nil {
		return note("the error %q is nil", label(e.Title))
	}
	v := failureView{Message: shown(e.Err.Error(), maxErrorRunes), Type: label(fmt.Sprintf("%T", e.Err)), Stack: shown(e.Stack, maxStackRunes)}
	if f := failureIn(e.Err); f != nil {
		v.Class, v.Type = label(string(f.Class)), label(f.Type)
		if v.Stack == "" {
			v.Stack = shown(f.Stack, maxStackRunes)
		}
	}
	return execute(errorText, struct{ Title, Class, Type, Message, Stack string }{label(e.Title), v.Class, v.Type, v.Message, v.Stack})
}

// failureIn looks for a failure in a chain of errors.
func failureIn(err error) *policies.Failure {
	for range 50 { // an error may wrap itself
		if f, ok := err.(*policies.Failure); ok && f != nil { //nolint:errorlint // the chain is walked here
			return f
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return nil
		}
		if err = u.Unwrap(); err == nil {
			return nil
		}
	}
	return nil
}

// Artifact shows a value of the state with its type, in the way that suits it: numbers and texts as they are, anything with parts
// as a tree to open. What the task has set is on the default card without this, in short.
type Artifact struct {
	Name  string
	Value any
}

var artifactText = template.Must(template.New("artifact").Parse(
	`<div class="artifact"><p><span class="name">{{.Name}}</span> <span class="type">{{.Type}}</span></p>{{if .Tree}}{{.Tree}}{{else}}<p><code>{{.Text}}</code></p>{{end}}</div>`))

// CardHTML implements [flow.Component].
func (a Artifact) CardHTML() template.HTML {
	data := struct {
		Name, Type, Text string
		Tree             template.HTML
	}{Name: label(a.Name), Type: label(fmt.Sprintf("%T", a.Value))}
	v := reflect.ValueOf(a.Value)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
		_, isError := a.Value.(error)
		_, isText := a.Value.(fmt.Stringer)
		if !isError && !isText {
			root, err := treeOf(a.Value)
			if err == nil {
				root.Open = root.Count <= 10
				data.Tree = root.html()
				break
			}
		}
		data.Text, _ = cell(a.Value)
	default:
		data.Text, _ = cell(a.Value)
	}
	return execute(artifactText, data)
}
