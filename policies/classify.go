package policies

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"
)

// WithClass marks an error with a class. The text, errors.Is and errors.As stay as they are. The
// outermost mark counts; where errors.Join put several side by side, one that is never tried again
// wins. WithClass(nil, c) is nil. A class outside the list counts as Unknown.
func WithClass(err error, c Class) error {
	if err == nil {
		return nil
	}
	return &classError{err, c}
}

// WithRetryAfter marks an error with the wait that the other side asked for, as HTTP's Retry-After
// does. The next attempt starts no sooner than that, even when it is longer than
// Retry.MaximumInterval. An error without a class becomes RateLimited by it. Zero and negative
// waits ask for nothing. WithRetryAfter(nil, d) is nil.
func WithRetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err, d}
}

type classError struct {
	error
	class Class
}

func (e *classError) Unwrap() error { return e.error }

type retryAfterError struct {
	error
	after time.Duration
}

func (e *retryAfterError) Unwrap() error { return e.error }

// Classify turns an error into a failure: its class, type, text and the wait it asked for. It
// returns nil for nil, and a copy for a *Failure. The first rule that fits gives the class:
//
//   - a mark of [WithClass]
//   - a *Failure in the chain
//   - an application error of Temporal's SDK: the class it is typed with (Cancelled and Lost, which
//     speak of another run, aside), else Permanent if it is non-retryable; a timeout error of the
//     SDK: Timeout
//   - what the author's own rules say, see [Classifier] and [ClassifyWith]
//   - a wait asked for with [WithRetryAfter], by an [HTTPError] or in a gRPC status: RateLimited
//   - context.DeadlineExceeded: Timeout
//   - what the error of a service, a database, TLS, the network or the operating system is known to
//     mean; the table is docs/failures.md
//   - anything else: Unknown
//
// A known error counts wherever it is in the chain. Among joined errors one that is never tried again
// wins, then a timeout, then the first.
//
// A context.Canceled is Unknown on purpose, and so is the SDK's canceled error: the step may have
// cancelled a context of its own, as errgroup does, or waited for somebody else's run. Whoever
// holds the attempt's context knows whether the run was cancelled, and marks the error with
// Cancelled.
//
// Classify outlives errors whose own methods panic, such as a nil pointer in an error: class Bug.
func Classify(err error) *Failure { return ClassifyWith(err) }

// ClassifyWith is Classify with rules of one's own, which are asked in order where Classify's text
// says so. "" means that a rule has no opinion, and so does a panic in it. Nil rules are left out.
func ClassifyWith(err error, rules ...func(error) Class) (f *Failure) {
	if err == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			f = &Failure{Class: Bug, Message: message(fmt.Sprintf("an error of type %T panicked when it was read: %s (is it a nil pointer?)", err, text(p))), Type: typeName(err)}
		}
	}()

	f = &Failure{}
	var own *Failure
	if errors.As(err, &own) && own != nil {
		*f = *own
	} else if sdk := fromSDK(err); sdk != nil {
		f = sdk
	}
	f.Message = message(textOf(err))
	if own == nil && f.Type == "" {
		f.Type = typeOf(err)
	}
	if f.Message == "" {
		f.Message = fmt.Sprintf("an error of type %T without a text", err)
	}
	if asked := retryAfterOf(err); asked > 0 {
		f.RetryAfter = asked
	}
	f.Class = classOf(err, f, rules)
	return f
}

func classOf(err error, f *Failure, rules []func(error) Class) Class {
	if c := marked(err); c != "" {
		if !c.known() {
			return Unknown
		}
		return c
	}
	if f.Class.known() {
		return f.Class
	}
	for _, rule := range rules {
		switch c := opinion(rule, err); {
		case c == "":
		case !c.known(), c == Lost, c == Cancelled: // those two speak of the attempt and the run, not of an error
			return Unknown
		default:
			return c
		}
	}
	if f.RetryAfter > 0 {
		return RateLimited
	}
	return or(builtin(err), Unknown)
}

// marked returns the class that WithClass put on the error, "" for none. Along a chain the outer
// mark wins; among joined errors a class that is never tried again wins, then the first.
func marked(err error) Class {
	for err != nil {
		if m, ok := err.(*classError); ok {
			return m.class
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			var first Class
			for _, child := range e.Unwrap() {
				c := marked(child)
				if c.final() {
					return c
				}
				if first == "" {
					first = c
				}
			}
			return first
		default:
			return ""
		}
	}
	return ""
}

// each visits err and everything it wraps, outermost first, until visit returns false.
func each(err error, visit func(error) bool) bool {
	for err != nil {
		if !visit(err) {
			return false
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, child := range e.Unwrap() {
				if !each(child, visit) {
					return false
				}
			}
			return true
		default:
			return true
		}
	}
	return true
}

// retryAfterOf is the longest wait that any part of the error asked for.
func retryAfterOf(err error) time.Duration {
	var asked time.Duration
	each(err, func(e error) bool {
		switch e := e.(type) {
		case *retryAfterError:
			asked = max(asked, e.after)
		case *HTTPError:
			if e != nil {
				asked = max(asked, e.RetryAfter)
			}
		default:
			asked = max(asked, askedByStatus(e))
		}
		return true
	})
	return asked
}

// wrappers are types that only add text, a mark or a list; they say nothing about the failure.
var wrappers = []reflect.Type{
	reflect.TypeOf(fmt.Errorf("%w", io.EOF)),
	reflect.TypeOf(fmt.Errorf("%w %w", io.EOF, io.EOF)),
	reflect.TypeOf(errors.Join(io.EOF)),
	reflect.TypeFor[*classError](),
	reflect.TypeFor[*retryAfterError](),
	reflect.TypeFor[*deferralError](),
}

// typeOf is the name of the outermost type in the chain that is not a wrapper.
func typeOf(err error) string {
	var name string
	each(err, func(e error) bool {
		for _, w := range wrappers {
			if reflect.TypeOf(e) == w {
				return true
			}
		}
		name = typeName(e)
		return false
	})
	return name
}

// hasType reports whether an error in the chain has a type of that name. Like Classify it outlives
// an error whose Unwrap panics: the chain ends there.
func hasType(err error, name string) (found bool) {
	defer func() { _ = recover() }()
	each(err, func(e error) bool {
		found = typeName(e) == name
		if p, ok := e.(*portedError); ok {
			found = slices.Contains(p.types, name)
		}
		return !found
	})
	return found
}

// typeName is the name of an error's type by the rule of Temporal's SDK: no package, no pointer,
// and nothing for errors.New.
func typeName(err error) string {
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Name() == "errorString" {
		return ""
	}
	return t.Name()
}
