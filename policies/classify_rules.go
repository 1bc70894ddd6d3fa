package policies

import (
	"context"
	"io/fs"
	"os/exec"
	"reflect"
	"syscall"
)

// builtinRules say what one error means, without what it wraps; "" means that the rule does not know it. They are asked in this
// order: what a service says about the call comes before what carried the call.
var builtinRules = []func(error) Class{contextClass, awsClass, grpcClass, httpClass, sqlClass, tlsClass, dnsClass, osClass, networkClass}

// builtin is the class of an error that the built-in rules know, "" for others.
func builtin(err error) Class {
	var chain []error // up to where it branches
	var joined []error
	for err != nil {
		chain = append(chain, err)
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			joined, err = e.Unwrap(), nil
		default:
			err = nil
		}
	}
	for _, rule := range builtinRules {
		for _, e := range chain {
			if c := opinion(rule, e); c != "" {
				return c
			}
		}
	}
	var found Class
	for _, child := range joined {
		switch c := builtin(child); {
		case c.final():
			return c
		case found == "" || found == Unknown || c == TimedOut:
			found = or(c, found)
		}
	}
	return found
}

// opinion asks a rule about an error. A nil rule and one that panics have none.
func opinion(rule func(error) Class, err error) (c Class) {
	if rule == nil {
		return ""
	}
	defer func() {
		if recover() != nil {
			c = ""
		}
	}()
	return rule(err)
}

// is reports whether err itself, without what it wraps, is one of the targets.
func is(err error, targets ...error) bool {
	own, _ := err.(interface{ Is(error) bool })
	for _, target := range targets {
		if err == target || own != nil && own.Is(target) {
			return true
		}
	}
	return false
}

// contextClass knows the errors of contexts, and those that say they are one: so does the timeout of a dialer, or of a lookup. A cancel
// is Unknown, see Classify: so that what was cut by it does not count as a fault of the network.
func contextClass(err error) Class {
	switch {
	case is(err, context.DeadlineExceeded):
		return TimedOut
	case is(err, context.Canceled):
		return Unknown
	}
	return ""
}

// osClass knows what the operating system refuses, and programs that cannot be started. A file that does not exist stays
// Unknown: another worker may have it, or somebody is about to write it.
func osClass(err error) Class {
	switch {
	case is(err, fs.ErrPermission):
		return Denied
	case is(err, exec.ErrNotFound, exec.ErrDot, syscall.ENOEXEC):
		return Permanent
	case is(err, full...):
		return Transient
	}
	return ""
}

// full are the errors of a machine that has no room for now.
var full = []error{
	syscall.ENOSPC, syscall.EDQUOT, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EBUSY, syscall.EAGAIN, syscall.EINTR,
	syscall.ENOLCK, syscall.ESTALE, syscall.ETXTBSY,
}

// field is the exported field of a struct, or of what a pointer points to. The zero value means that there is none.
func field(err error, name string) reflect.Value {
	v := reflect.ValueOf(err)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

// number is the value of an integer field.
func number(err error, name string) (n int64, ok bool) {
	switch v := field(err, name); {
	case !v.IsValid():
		return 0, false
	case v.CanInt():
		return v.Int(), true
	case v.CanUint():
		return int64(v.Uint()), true
	}
	return 0, false
}
