package policies

import (
	"fmt"
	"time"
)

// Portable is what can be sent of an error to another process.
type Portable struct {
	Failure *Failure `json:"failure"`
	// Types are the names of the types in the chain, for Retry.NonRetryable.
	Types []string `json:"types,omitempty"`
	// Deferred says that the error was marked with [WithDeferral]; the rest is the mark.
	Deferred   bool          `json:"deferred,omitempty"`
	For        time.Duration `json:"for_ns,omitempty"`
	Dependency string        `json:"dependency,omitempty"`
	Reason     string        `json:"reason,omitempty"`
}

// Pack makes an error portable. F is the failure that it was classified as.
func Pack(err error, f *Failure) (p Portable) {
	p.Failure = f
	d, marked := DeferralOf(err, nil)
	p.Deferred, p.For, p.Dependency, p.Reason = marked, d.For, d.Dependency, d.Reason
	defer func() {
		_ = recover() // of an error of the author's that panics when it is unwrapped
	}()
	each(err, func(e error) bool {
		if name := typeName(e); name != "" {
			p.Types = append(p.Types, name)
		}
		return true
	})
	return p
}

// Err is an error that is classified and decided about like the one that was packed. Its chain has the failure.
func (p Portable) Err() error {
	f := p.Failure
	if f == nil {
		f = &Failure{Class: Unknown, Message: fmt.Sprintf("an error of type %v", p.Types)}
	}
	var err error = &portedError{failure: f, types: p.Types}
	if p.Deferred {
		err = WithDeferral(err, Deferral{For: p.For, Dependency: p.Dependency, Reason: p.Reason})
	}
	return err
}

type portedError struct {
	failure *Failure
	types   []string
}

// Error is the text of the error that was packed.
func (e *portedError) Error() string { return e.failure.Message }

// Unwrap is its failure.
func (e *portedError) Unwrap() error { return e.failure }
