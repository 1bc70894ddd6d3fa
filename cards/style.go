package cards

import (
	"strconv"
	"time"
)

// Style is the style sheet of cards, for pages that are to look like them: light, dark and readable on a phone.
func Style() string { return styleSheet }

// Text makes text that others wrote fit to be shown on a page, in at most n runes: without terminal colours, control characters
// and those that turn the direction of the text around. It says how much it left out. It does not escape HTML.
func Text(s string, n int) string { return shown(s, n) }

// Duration writes a duration as cards do: "850 ms", "2.71 s", "3 m 20 s", "2 h 5 m".
func Duration(d time.Duration) string { return duration(d) }

// Count writes a number of things with commas: "1,200". Numbers in the cells of tables have them from five digits on, because
// four may be a year.
func Count(n int) string { return commas(strconv.Itoa(n)) }

// Size writes a number of bytes as cards do: "1.5 MiB".
func Size(n int64) string { return bytes(n) }
