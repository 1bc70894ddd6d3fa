package policies

import (
	"slices"
	"strings"
)

// Class says what kind of failure it was, and so whether trying again can help.
//
// The values are durable: records, plans and Temporal's failure types carry them.
type Class string

// The classes. A class outside this list, the empty one included, is read as Unknown.
const (
	// Transient passes by itself, such as a refused connection. Tried again.
	Transient Class = "Transient"
	// RateLimited means that the other side asked for fewer calls, or for a call later on. Tried again.
	RateLimited Class = "RateLimited"
	// TimedOut means that an attempt, or a call in it, took too long. Tried again.
	// (The name Timeout belongs to the policy.)
	TimedOut Class = "Timeout"
	// Lost means that the worker was killed or cut off in the middle of the attempt.
	// Tried again within Retry.Lost.
	Lost Class = "Lost"
	// Invalid means that the input is wrong and stays wrong. Never tried again.
	Invalid Class = "Invalid"
	// Denied means that credentials or rights are missing. Never tried again.
	Denied Class = "Denied"
	// Permanent means that the author's code said that it is over, or that the error is known to stay. Never tried again.
	Permanent Class = "Permanent"
	// Bug means that the code panicked. Tried again.
	Bug Class = "Bug"
	// OutOfMemory means that an isolated step used more memory than it was given. Tried again, see Escalate.
	OutOfMemory Class = "OutOfMemory"
	// OverBudget means that it would have been tried again, but too much was tried again already: see Budget. Never tried again.
	OverBudget Class = "OverBudget"
	// Cancelled means that somebody stopped the run. Never tried again.
	Cancelled Class = "Cancelled"
	// Unknown is an error that no rule knows. Tried again.
	Unknown Class = "Unknown"
)

var (
	classes      = []Class{Transient, RateLimited, TimedOut, Lost, Invalid, Denied, Permanent, Bug, OutOfMemory, OverBudget, Cancelled, Unknown}
	finalClasses = []Class{Invalid, Denied, Permanent, OverBudget, Cancelled}
)

// known reports whether c is one of the classes above.
func (c Class) known() bool { return slices.Contains(classes, c) }

// final reports whether a failure of this class is never tried again, whatever the policy says.
func (c Class) final() bool { return slices.Contains(finalClasses, c) }

// named reports whether an author's word in Retry.NonRetryable means this class. Case does not
// matter, because "timeout" that silently never matches would be a trap.
func (c Class) named(name string) bool { return strings.EqualFold(string(c), name) }
