package cards

import (
	"fmt"
	"html/template"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits keep a card readable, its file small and its making quick, whatever a step puts on it.
const (
	maxTableRows    = 500
	maxTableColumns = 50
	maxTableRunes   = 1 << 20
	maxCellRunes    = 2000
	maxCellParts    = 1 << 16 // of a slice, map or struct
	maxLabelRunes   = 200
)

// ValueBox shows one figure large, with its name. Boxes that follow each other stand side by side.
type ValueBox struct {
	Label string
	// Value is the figure. Floats are shown with four significant digits; to choose the digits, format
	// the value and pass the string.
	Value any
	// Note is a smaller line below the value. Defaults to none.
	Note string
}

var valueBox = template.Must(template.New("valuebox").Parse(
	`<div class="box"><dl><dt>{{.Label}}</dt><dd>{{.Value}}</dd></dl>{{with .Note}}<p>{{.}}</p>{{end}}</div>`))

// CardHTML implements [flow.Component].
func (b ValueBox) CardHTML() template.HTML {
	value, _ := cell(b.Value)
	return execute(valueBox, struct{ Label, Value, Note string }{label(b.Label), value, label(b.Note)})
}

// Table shows rows of values. Columns in which every value is a number, or text that reads as one, are aligned to the
// right. After 500 rows, or a million characters, the table ends with a line that says how many rows were left out; it
// shows at most 50 columns.
type Table struct {
	// Caption says what the table shows. Defaults to none.
	Caption string
	// Columns are the headers. Rows may be shorter or longer than this.
	Columns []string
	// Rows hold strings, numbers, booleans, [time.Time], [time.Duration], [fmt.Stringer], errors or nil; anything
	// else is shown as fmt.Sprint shows it.
	Rows [][]any
}

var table = template.Must(template.New("table").Parse(
	`<div class="scroll wide" role="region" aria-label="{{.Label}}" tabindex="0"><table>` +
		`{{with .Caption}}<caption>{{.}}</caption>{{end}}` +
		`<thead><tr>{{range .Columns}}<th scope="col"{{if .Number}} class="n"{{end}}>{{.Text}}</th>{{end}}</tr></thead>` +
		`<tbody>{{range .Rows}}<tr>{{range .}}<td{{if .Number}} class="n"{{end}}>{{.Text}}</td>{{end}}</tr>{{else}}` +
		`<tr><td colspan="{{.Width}}" class="quiet">no rows</td></tr>{{end}}</tbody></table>` +
		`{{with .More}}<p class="quiet">{{.}}</p>{{end}}</div>`))

type tableCell struct {
	Text   string
	Number bool
}

// CardHTML implements [flow.Component].
func (t Table) CardHTML() template.HTML {
	all := len(t.Columns)
	for _, r := range t.Rows {
		all = max(all, len(r))
	}
	width := min(all, maxTableColumns)
	columns := make([]tableCell, width)
	for i := range columns {
		if i < len(t.Columns) {
			columns[i].Text = label(t.Columns[i])
		}
		columns[i].Number = len(t.Rows) > 0
	}
	var rows [][]tableCell
	for room := maxTableRunes; len(rows) < min(len(t.Rows), maxTableRows) && room > 0; {
		row := make([]tableCell, width)
		for j, v := range t.Rows[len(rows)][:min(len(t.Rows[len(rows)]), width)] {
			text, number := cell(v)
			row[j].Text = text
			columns[j].Number = columns[j].Number && (number || v == nil)
			room -= len(text)
		}
		rows = append(rows, row)
	}
	for _, r := range rows {
		for j := range r {
			r[j].Number = columns[j].Number
		}
	}
	data := struct {
		Label, Caption, More string
		Columns              []tableCell
		Rows                 [][]tableCell
		Width                int
	}{Label: "table", Caption: label(t.Caption), Columns: columns, Rows: rows, Width: max(width, 1)}
	if data.Caption != "" {
		data.Label = data.Caption
	}
	var more []string
	if left := len(t.Rows) - len(rows); left > 0 {
		more = append(more, Count(left)+" more rows")
	}
	if left := all - width; left > 0 {
		more = append(more, Count(left)+" more columns")
	}
	if more != nil {
		data.More = "… and " + strings.Join(more, ", ")
	}
	return execute(table, data)
}

// cell returns a value as text, and whether it is a number.
func cell(v any) (text string, number bool) {
	switch v := v.(type) {
	case nil:
		return "–", false
	case string:
		if len(v) < 32 {
			_, err := strconv.ParseFloat(strings.ReplaceAll(v, "−", "-"), 64)
			number = err == nil
		}
		return shown(v, maxCellRunes), number
	case time.Time:
		return v.Format(time.RFC3339), false
	case time.Duration:
		return duration(v), true
	case error, fmt.Stringer:
		return shown(fmt.Sprint(v), maxCellRunes), false
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Float32, reflect.Float64:
		return number4(r.Float()), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return grouped(strconv.FormatInt(r.Int(), 10)), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return grouped(strconv.FormatUint(r.Uint(), 10)), true
	}
	if room := maxCellParts; !fits(r, &room) {
		return shown(fmt.Sprintf("%T, too large to show", v), maxCellRunes), false
	}
	return shown(fmt.Sprint(v), maxCellRunes), false
}

// fits says that v has no more parts than there is room for. What contains itself does not fit: fmt would not end.
func fits(v reflect.Value, room *int) bool {
	if *room--; *room < 0 {
		return false
	}
	switch v.Kind() {
	case reflect.String:
		*room -= v.Len()
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || fits(v.Elem(), room)
	case reflect.Struct:
		for _, field := range v.Fields() {
			if !fits(field, room) {
				return false
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !fits(v.Index(i), room) {
				return false
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if !fits(it.Key(), room) || !fits(it.Value(), room) {
				return false
			}
		}
	}
	return *room >= 0
}

// number4 writes a float with four significant digits and every digit before the point, and with a true minus sign.
func number4(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return strconv.FormatFloat(f, 'g', -1, 64)
	case f == 0:
		return "0"
	case a >= 1e9 || a < 1e-4:
		return minus(strconv.FormatFloat(f, 'g', 4, 64))
	case a >= 1000:
		return grouped(strconv.FormatFloat(f, 'f', 0, 64))
	default:
		digits := 3 - int(math.Floor(math.Log10(a)))
		return minus(strconv.FormatFloat(f, 'f', digits, 64))
	}
}

func minus(s string) string { return strings.ReplaceAll(s, "-", "−") }

// grouped puts commas between groups of three digits, from five digits on: what is in a cell and has four may be a year.
func grouped(s string) string {
	if digits := strings.TrimPrefix(s, "-"); len(digits) < 5 {
		return minus(s)
	}
	return minus(commas(s))
}

// commas puts commas between groups of three digits.
func commas(s string) string {
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// duration writes a duration with about three digits: "850 ms", "2.71 s", "3 m 20 s", "2 h 5 m".
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "−" + duration(-max(d, -math.MaxInt64))
	case d == 0:
		return "0 s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return strconv.FormatFloat(math.Floor(d.Seconds()*100)/100, 'f', -1, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d m %d s", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%d h %d m", d/time.Hour, d%time.Hour/time.Minute)
	}
}

// bytes writes a size with binary prefixes.
func bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	for f >= 1024 && unit < 3 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGT"[unit])
}

// cut shortens s to n runes and says how much it left out.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	runes := utf8.RuneCountInString(s)
	if runes <= n {
		return s
	}
	end := 0
	for range n {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
	}
	return fmt.Sprintf("%s… (%s more characters)", s[:end], Count(runes-n))
}

// shown makes s fit to be shown, in at most n runes.
func shown(s string, n int) string { return clean(cut(s, n)) }

// label is shown for titles, names and captions.
func label(s string) string { return shown(s, maxLabelRunes) }

// short makes s a label of one line and at most n runes, without saying how many are left out.
func short(s string, n int) string {
	runes := []rune(strings.Join(strings.Fields(label(s)), " "))
	if len(runes) <= n {
		return string(runes)
	}
	return string(runes[:n-1]) + "…"
}

// ansi matches the escape sequences that terminal programs colour their lines with.
var ansi = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// clean makes text fit to be shown: valid UTF-8, without terminal colours and without control characters, among
// them those that turn the direction of the text around and so make it read as something else.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r):
			return -1
		case r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return -1
		}
		return r
	}, ansi.ReplaceAllString(strings.ToValidUTF8(s, "\ufffd"), ""))
}

// execute runs one of this package's own templates over plain strings, which cannot fail.
func execute(t *template.Template, data any) template.HTML {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return note("%v", err)
	}
	return template.HTML(b.String()) //nolint:gosec // the output of html/template is escaped
}

// note says on the card what could not be shown.
func note(format string, args ...any) template.HTML {
	text := template.HTMLEscapeString(shown(fmt.Sprintf(format, args...), maxCellRunes))
	return template.HTML(`<p class="note wide">` + text + `</p>`) //nolint:gosec // escaped in the line above
}
