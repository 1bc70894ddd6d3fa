package policies

// ClassifierPolicy is a step's own rule for the classes of its errors. Make one with [Classifier].
// It is immutable and safe for concurrent use if its function is.
type ClassifierPolicy struct{ rule func(error) Class }

// StepOption makes ClassifierPolicy an option of a step.
func (ClassifierPolicy) StepOption() {}

// Classifier gives a step a rule for errors that no other rule knows, or knows too well:
//
//	flow.Step("fetch", fetch,
//		policies.Retry{MaximumAttempts: 5},
//		policies.Classifier(func(err error) policies.Class {
//			var e *policies.HTTPError
//			if errors.As(err, &e) && e.StatusCode == http.StatusNotFound {
//				return policies.Transient // this service needs a while until it finds what it was given
//			}
//			return ""
//		}))
//
// The rule gets the error that the step returned and gives its class, or "" if it has no opinion. It is asked after marks and
// before the built-in rules (see [Classify]), and before the rule of the worker, if that has one. It must be a quick function of the
// error. One that panics has no opinion. Lost and Cancelled are not a rule's to give and count as Unknown.
func Classifier(rule func(error) Class) ClassifierPolicy { return ClassifierPolicy{rule} }

// Rule is the function that [Classifier] was given.
func (p ClassifierPolicy) Rule() func(error) Class { return p.rule }
