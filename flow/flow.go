package flow

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
)

// Flow is a named graph of steps over one state type. Make it with [New].
// It is immutable and safe for concurrent use.
type Flow struct {
	name   string
	state  reflect.Type // S of New[S]
	root   *node
	schema *artifacts.Schema
	params []boundParam
	places map[string]*place // of the tasks
	shapes map[string]*shape
	errs   []error // found by New, told by Check
}

// Node is a part of a flow's graph over the state S: a step or a shape made of nodes. It is immutable and may be used in several
// flows. The zero Node is a mistake that Check tells.
// The type parameter makes the compiler refuse a step of another state type; it is
// inferred and never written.
type Node[S any] struct{ n *node }

// node is the erased form: past this file nothing is generic.
type node struct {
	kind  Kind
	name  string
	nodes []*node
	step  *StepDef // of a step, and of a split that is decided on its own
	join  *node    // of a branch and a foreach
	shape *shape
	errs  []error
}

// StepDef is a step as a worker runs it: the author's functions with the state's type erased.
// It is part of the contract between this package and the worker; authors never need it.
type StepDef struct {
	// Name is the step's name in its flow.
	Name string
	// Spec is the step's policies as data, the same as in the plan.
	Spec policies.Spec
	// Run calls the author's function; state is a *S. It is nil for a join.
	Run func(ctx context.Context, state any) error
	// Command is the author's function of a step made with Exec, which has no Run.
	Command func(state any) Command
	// Join calls the author's function of a join.
	Join func(ctx context.Context, state any, in Source) error
	// RetryIf is Retry.RetryIf, nil when there is none.
	RetryIf func(error) bool
	// Classify is the rule of policies.Classifier, nil when there is none.
	Classify func(error) policies.Class
	// Catch is the catch function, nil when there is none.
	Catch *policies.CatchPolicy
	// Isolated is set if the step runs in a process of its own.
	Isolated *Isolated
	// Cards are the reports made when the task ends.
	Cards []CardSpec
}

// Option is something a step is given besides its function: a [policies.Retry],
// [policies.Timeout], [policies.Catch], [policies.Limit] or a card.
type Option interface{ StepOption() }

// New defines a flow that runs its nodes one after the other. The name is the flow's durable
// identity: the Temporal workflow type and a folder in the store.
//
// New never fails. [Flow.Check] reports every mistake at once; the worker, the starter and the
// test kit call it before anything runs.
func New[S any](name string, nodes ...Node[S]) *Flow {
	f := &Flow{name: name, state: reflect.TypeFor[S](), root: decide(seq("it", nodes))}
	if strings.EqualFold(name, "stepwell") {
		f.errs = append(f.errs, fmt.Errorf("flow name %q is not allowed (activities of every run begin with it; choose another)", name))
	}
	if !legalFlow.MatchString(name) {
		f.errs = append(f.errs, fmt.Errorf("flow name %q is not allowed (use a letter, then up to 127 letters, digits, _ or -)", name))
	}
	f.fail(f.bindState())
	f.checkGraph()
	f.checkCommands()
	f.places, f.shapes = f.locate(), map[string]*shape{}
	f.root.walk(func(n *node) {
		if n.shape != nil {
			f.shapes[n.name] = n.shape
		}
	})
	return f
}

// fail keeps mistakes for Check, each with the flow's name in front.
func (f *Flow) fail(err error) {
	for _, err := range each(err) {
		f.errs = append(f.errs, fmt.Errorf("flow %q: %w", f.name, err))
	}
}

// each takes errors that were joined apart, so that every one can be told with its context.
func each(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if reflect.TypeOf(err) != joinType || !errors.As(err, &joined) { // fmt's with several %w have a text of their own
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, each(err)...)
	}
	return all
}

var joinType = reflect.TypeOf(errors.Join(errors.New("")))

// bindState finds the artifacts and parameters of the state. What is wrong with the parameters is told
// even if the artifacts are wrong.
func (f *Flow) bindState() error {
	if f.state.Kind() != reflect.Struct {
		return fmt.Errorf("state type %s is not a struct (its exported fields are the artifacts)", f.state)
	}
	schema, schemaErr := artifacts.SchemaOf(f.state)
	if schemaErr != nil {
		var fields []artifacts.Field
		for _, field := range reflect.VisibleFields(f.state) {
			if field.IsExported() && field.Tag.Get("flow") != "-" {
				fields = append(fields, artifacts.Field{GoName: field.Name, Type: field.Type, Tag: field.Tag})
			}
		}
		_, err := bindParams(fields)
		return errors.Join(schemaErr, err)
	}
	params, err := bindParams(schema.Fields())
	f.schema, f.params = schema, params
	return err
}

// Step is one step: a plain function that reads and sets fields of the state.
//
// The name is the step's durable identity within its flow: records, logs and the Web UI carry it.
// A step without options is tried once; see [policies.Retry], [policies.Timeout] and [policies.Catch].
func Step[S any](name string, fn func(context.Context, *S) error, options ...Option) Node[S] {
	n := newStep[S](name, options)
	if fn == nil {
		n.errs = append(n.errs, fmt.Errorf("step %q has no function", name))
	}
	n.step.Run = func(ctx context.Context, state any) error { return fn(ctx, state.(*S)) }
	return Node[S]{n}
}

// newStep is a step without its function.
func newStep[S any](name string, options []Option) *node {
	def := &StepDef{Name: name}
	n := &node{kind: KindStep, name: name, step: def}
	var (
		retry   *policies.Retry
		timeout *policies.Timeout
		catch   *policies.CatchPolicy
		limit   *policies.Limit

		dependency *policies.Dependency
		budget     *policies.Budget
		escalate   *policies.Escalate
	)
	twice := func(what string) {
		n.errs = append(n.errs, fmt.Errorf("step %q has two %s policies (keep one)", name, what))
	}
	for _, o := range options {
		switch o := o.(type) {
		case policies.Retry:
			if retry != nil {
				twice("retry")
			}
			retry = &o
			def.RetryIf = o.RetryIf
		case policies.Timeout:
			if timeout != nil {
				twice("timeout")
			}
			timeout = &o
		case policies.CatchPolicy:
			if catch != nil {
				twice("catch")
			}
			// The zero CatchPolicy has no type; that it has no function either is told by its spec.
			if have, want := o.StateType(), reflect.TypeFor[S](); have != nil && have != want {
				n.errs = append(n.errs, fmt.Errorf("step %q catches for state type %s, the flow's is %s (take a *%s in the catch function)", name, have, want, want))
			}
			catch = &o
		case policies.ClassifierPolicy:
			switch {
			case def.Classify != nil:
				twice("classifier")
			case o.Rule() == nil:
				n.errs = append(n.errs, fmt.Errorf("step %q: classifier has no function (give policies.Classifier one)", name))
			}
			def.Classify = o.Rule()
		case policies.Limit:
			if limit != nil {
				twice("limit")
			}
			limit = &o
		case policies.Dependency:
			if dependency != nil {
				twice("dependency")
			}
			dependency = &o
		case policies.Budget:
			if budget != nil {
				twice("budget")
			}
			budget = &o
		case policies.Escalate:
			if escalate != nil {
				twice("escalate")
			}
			escalate = &o
		case Isolated:
			if def.Isolated != nil {
				twice("isolated")
			}
			def.Isolated = &o
		case CardSpec:
			def.Cards = append(def.Cards, o)
		default:
			n.errs = append(n.errs, fmt.Errorf("step %q has an option of type %T (give it a policies.Retry, policies.Timeout, policies.Catch, policies.Limit or card, by value)", name, o))
		}
	}
	def.Catch = catch
	def.Spec = policies.NewSpec(retry, timeout, catch)
	if limit != nil {
		def.Spec = def.Spec.Limited(*limit)
	}
	def.Spec.Dependency, def.Spec.Budget, def.Spec.Escalate = dependency, budget, escalate
	for _, err := range each(def.Spec.Validate()) {
		n.errs = append(n.errs, fmt.Errorf("step %q: %w", name, err))
	}
	if def.Isolated != nil {
		n.errs = append(n.errs, def.Isolated.check(name)...)
	}
	n.errs = append(n.errs, checkCards(name, def.Cards)...)
	return n
}

// Seq runs nodes one after the other. A flow is itself a sequence; Seq is for putting
// several steps where a shape takes one node.
func Seq[S any](nodes ...Node[S]) Node[S] { return Node[S]{seq("a sequence", nodes)} }

// Name is the flow's name.
func (f *Flow) Name() string { return f.name }

// Check reports every mistake in the definition as one joined error, in the order of
// definition: illegal or duplicate names, fields and items of types that cannot be stored, bad tags, policies and fans that make no
// sense, a catch for another state type, shapes without steps, loops that might turn without end. It returns nil for a sound flow.
func (f *Flow) Check() error { return errors.Join(f.errs...) }

// Schema describes the state's artifacts. It is nil if the state type cannot be stored, which Check tells.
func (f *Flow) Schema() *artifacts.Schema { return f.schema }

// NewState returns a new zero state, a *S.
func (f *Flow) NewState() any { return reflect.New(f.state).Interface() }

// Steps lists the steps in order of definition, joins after what they join. Splits that are decided on their own come as steps
// with the name of their shape.
func (f *Flow) Steps() []*StepDef {
	var steps []*StepDef
	f.root.walk(func(n *node) {
		if n.step != nil {
			steps = append(steps, n.step)
		}
	})
	return steps
}

func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, child := range n.nodes {
		child.walk(visit)
	}
	if n.join != nil {
		n.join.walk(visit)
	}
}

// Names become workflow types, activity types, folders and flags, so they are kept to what
// every one of those takes as it is.
var (
	legalFlow = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,127}$`)
	legalStep = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	legalCard = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
)
