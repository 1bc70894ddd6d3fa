package stepwell

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/runs"
)

// grouped writes a number for people: "1,200".
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// many is plural with a number that is grouped.
func many(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(n) + " " + noun + "s"
}

// countsText says how many tasks of a step ended how: "998 completed, 2 failed of 1,000".
func countsText(c runs.Counts, s style) string {
	var parts []string
	add := func(n int, text string) {
		if n > 0 {
			parts = append(parts, text)
		}
	}
	completed := s.good(grouped(c.Completed) + " completed")
	var of []string
	if c.Caught > 0 {
		of = append(of, s.warn(grouped(c.Caught)+" caught"))
	}
	if c.Reused > 0 {
		of = append(of, grouped(c.Reused)+" reused")
	}
	if len(of) > 0 {
		completed += " (" + strings.Join(of, ", ") + ")"
	}
	add(c.Completed, completed)
	add(c.Failed, s.bad(grouped(c.Failed)+" failed"))
	add(c.Cancelled, s.warn(grouped(c.Cancelled)+" cancelled"))
	add(c.Running, s.busy(grouped(c.Running)+" running"))
	add(c.Paused, s.warn(grouped(c.Paused)+" paused"))
	add(c.Unfinished, s.warn(grouped(c.Unfinished)+" unfinished"))
	if len(parts) == 0 {
		parts = append(parts, "0")
	}
	text := strings.Join(parts, ", ")
	if c.Total > 0 && (c.Total != c.Completed || len(parts) > 1) {
		text += " of " + grouped(c.Total)
	}
	return text
}

// stepText says how the tasks of a step stand, and where to look for those that nothing tells of.
func stepText(d stepDocument, s style) string {
	if len(d.RecordedBy) == 0 {
		return countsText(d.counts(), s)
	}
	where := "an item has one record, that of its last step, " + clean(strings.Join(d.RecordedBy, " or "))
	if d.State == runs.InBatches {
		return where
	}
	return countsText(d.counts(), s) + ", others in batches: " + where
}

// counts are those of a document.
func (d stepDocument) counts() runs.Counts {
	return runs.Counts{
		Total: d.Total, Completed: d.Completed, Caught: d.Caught, Reused: d.Reused, Failed: d.Failed, Cancelled: d.Cancelled, Running: d.Running, Paused: d.Paused, Unfinished: d.Unfinished,
	}
}

// named names a task for people: as the step, if it is the step's only one.
func named(task string) string {
	if strings.Contains(task, "[") {
		return fmt.Sprintf("task %q", task)
	}
	return fmt.Sprintf("step %q", task)
}

// othersText says what failed along with the first failure, "" if nothing did.
func othersText(f *policies.Failure) string {
	if f == nil || f.Others == 0 {
		return ""
	}
	return fmt.Sprintf(", and %s failed", many(f.Others, "other task"))
}
