package activities

// Redacted is a named value as it may be shown to people: hidden if its name says that it is a secret, and otherwise without the
// keys and passwords that are known by their looks.
func Redacted(name, value string) string {
	return (&redactor{}).named(name, value)
}
