package stepwell

import (
	"strings"
	"unicode/utf8"
)

// clean makes text that others wrote, such as an error's message, fit for one line of a terminal: escape sequences
// and control characters are taken out, so that nobody's data can recolour, retitle or rewrite the screen, and line
// breaks become spaces.
func clean(s string) string { return scrub(s, false) }

// cleanText is clean for text of several lines: line breaks and tabs stay.
func cleanText(s string) string { return scrub(s, true) }

func scrub(s string, lines bool) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if n := sequence(s); n > 0 {
			s = s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n' && lines, r == '\t' && lines:
			b.WriteRune(r)
		case r == '\r' && strings.HasPrefix(s[n:], "\n"): // the line feed stands for both
		case r == '\n', r == '\t', r == '\r', r == '\u2028', r == '\u2029':
			b.WriteByte(' ')
		case hidden(r):
		default:
			b.WriteRune(r) // U+FFFD for what is not UTF-8
		}
		s = s[n:]
	}
	return b.String()
}

// plain says that there is nothing to take out, as in nearly all text.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// hidden says that a character does something to the screen instead of showing: controls, and the marks that
// make text run the other way.
func hidden(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0:
		return true
	case r == '\u061c', r == '\u200e', r == '\u200f', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
		return true
	}
	return false
}

// sequence is the length of the escape sequence that s begins with, 0 if it begins with none. The forms are those
// of ECMA-48, in seven bits (ESC and a letter) and in eight (a character of C1).
func sequence(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case r == 0x1b && len(s) > 1 && s[1] >= 0x40 && s[1] <= 0x5f:
		r, n = rune(s[1])+0x40, 2
	case r == 0x1b: // such as ESC ( B: any number of intermediates and one final character
		for n < len(s) && s[n] >= 0x20 && s[n] <= 0x2f {
			n++
		}
		if n < len(s) && s[n] >= 0x30 && s[n] <= 0x7e {
			n++
		}
		return n
	case r < 0x80 || r > 0x9f:
		return 0
	}
	switch r {
	case 0x9b: // CSI: parameters, intermediates, a final character
		for n < len(s) && s[n] >= 0x20 && s[n] <= 0x3f {
			n++
		}
		if n < len(s) && s[n] >= 0x40 && s[n] <= 0x7e {
			n++
		}
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC: a string up to its terminator
		for i := n; i < len(s); i++ {
			switch rest := s[i:]; {
			case rest[0] == 0x07:
				return i + 1
			case strings.HasPrefix(rest, "\x1b\\"), strings.HasPrefix(rest, "\u009c"):
				return i + 2
			}
		}
		// Without a terminator, the rest is text that should be seen.
	}
	return n
}
