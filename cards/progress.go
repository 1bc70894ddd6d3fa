package cards

import (
	"fmt"
	"html/template"
	"strconv"
	"sync"
)

// ProgressBar shows how far something is. It may be moved while it is on a card, and is safe for concurrent use:
//
//	bar := &cards.ProgressBar{Label: "epochs", Total: 40}
//	flow.Card(ctx).Append(bar)
//	for epoch := range int64(40) {
//		…
//		bar.Set(epoch + 1)
//		flow.Card(ctx).Refresh()
//	}
//
// How far the whole task is, [flow.Progress] tells, which shows on the card by itself.
type ProgressBar struct {
	// Label says what is counted.
	Label string
	// Total is what is to be reached. Zero or less means that it is not known, and only the count is shown.
	Total int64
	// Unit is written behind the numbers. Defaults to none.
	Unit string

	mu   sync.Mutex
	done int64
}

// Set says how much is done.
func (b *ProgressBar) Set(done int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = done
}

// Add says how much more is done.
func (b *ProgressBar) Add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
}

var progressBar = template.Must(template.New("progress").Parse(
	`<div class="bar"><p><span>{{.Label}}</span> <span class="quiet">{{.Text}}</span></p>` +
		`{{if .Total}}<progress max="{{.Total}}" value="{{.Done}}" aria-label="{{.Name}}"></progress>{{end}}</div>`))

// CardHTML implements [flow.Component].
func (b *ProgressBar) CardHTML() template.HTML {
	b.mu.Lock()
	done := b.done
	b.mu.Unlock()
	total := max(b.Total, 0)
	text := commas(strconv.FormatInt(done, 10))
	if total > 0 {
		text += " of " + commas(strconv.FormatInt(total, 10))
	}
	if unit := label(b.Unit); unit != "" {
		text += " " + unit
	}
	if total > 0 {
		text += fmt.Sprintf(" (%d %%)", int(100*(float64(done)/float64(total))))
	}
	name := label(b.Label)
	if name == "" {
		name = "progress"
	}
	return execute(progressBar, struct {
		Label, Text, Name string
		Done, Total       int64
	}{label(b.Label), text, name, min(max(done, 0), total), total})
}
