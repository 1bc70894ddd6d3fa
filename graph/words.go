package graph

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/stepwell-flows/stepwell/flow"
)

// longest is how many characters of text that others wrote are shown.
const longest = 80

// caseText shows the value of a case: as it is when nobody can take it for anything else, otherwise as a quoted string,
// which has no control characters.
func caseText(value string) string {
	value = brief(value)
	quoted := strconv.Quote(value)
	if value == "" || value == "else" || strings.TrimSpace(value) != value || quoted != `"`+value+`"` {
		return quoted
	}
	return value
}

// printable is text as it is, or as a quoted string if it has characters that do not show.
func printable(text string) string {
	text = brief(text)
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func brief(text string) string {
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest-1]) + "…"
	}
	return text
}

// items says what the items of a foreach are and how they run, as far as that is not the default.
func items(n flow.PlanNode) string {
	return strings.Join(append([]string{"each " + printable(n.Item)}, fanText(n.Fan)...), "; ")
}

func fanText(f *flow.Fan) []string {
	if f == nil {
		return nil
	}
	var text []string
	if f.MaxParallel > 0 {
		text = append(text, fmt.Sprintf("up to %d at the same time", f.MaxParallel))
	}
	if f.Batch > 1 {
		text = append(text, fmt.Sprintf("in batches of %d", f.Batch))
	}
	if f.OnFailure == flow.FinishAll {
		text = append(text, "a failure does not stop the others")
	}
	count, percent := f.Tolerate.Count, strconv.FormatFloat(f.Tolerate.Percent, 'f', -1, 64)
	switch {
	case count > 0 && f.Tolerate.Percent > 0:
		text = append(text, fmt.Sprintf("%d or %s%% of them may fail", count, percent))
	case count > 0:
		text = append(text, fmt.Sprintf("%d of them may fail", count))
	case f.Tolerate.Percent > 0:
		text = append(text, percent+"% of them may fail")
	}
	return text
}

// policyText says in few words what is special about a step.
func policyText(n flow.PlanNode) string {
	var text []string
	if p := n.Policy; p != nil {
		if p.MaximumAttempts > 1 {
			text = append(text, fmt.Sprintf("up to %d attempts", p.MaximumAttempts))
		}
		if p.Catch {
			text = append(text, "caught")
		}
		if p.Limit.Max > 0 {
			text = append(text, p.Limit.String())
		}
	}
	if len(n.Cards) > 0 {
		text = append(text, "card "+strings.Join(n.Cards, ", "))
	}
	return strings.Join(text, ", ")
}
