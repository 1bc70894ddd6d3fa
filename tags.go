package stepwell

import (
	"errors"
	"fmt"
	"os/user"
	"regexp"
	"strings"

	"github.com/stepwell-flows/stepwell/records"
)

// checkTags refuses tags that a new run cannot have.
func checkTags(tags []string) error {
	err := records.CheckTags(tags)
	if n := len(records.UniqueTags(tags)); n > records.MaxTags {
		err = errors.Join(err, fmt.Errorf("a run may have %d tags, these are %d (leave some out)", records.MaxTags, n))
	}
	return err
}

// maxSearchBytes is how much of a run's tags is given to Temporal to search by: it takes at most 2 KiB, as JSON, and otherwise
// none of the run's attributes.
const maxSearchBytes = 1900

// searchTags are the first tags that fit.
func searchTags(tags []string) []string {
	left := maxSearchBytes
	for i, t := range tags {
		b, err := marshalJSON(t, "")
		if left -= len(b); err != nil || left < 0 {
			return tags[:i]
		}
	}
	return tags
}

// The branches of a project that are not of one's own choice.
const (
	userBranch = "user."
	testBranch = "test."
	prodBranch = "prod"
)

var (
	legalProject = regexp.MustCompile(`^[a-z0-9_]{1,128}$`)
	legalBranch  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
)

// checkProject refuses choices of a project and its branch that say nothing or cannot be.
func checkProject(o StartOptions) error {
	var errs []error
	if o.Project == "" && (o.Branch != "" || o.Production) {
		errs = append(errs, errors.New("a branch and production are of a project (name it: Project, --project)"))
	}
	if o.Project != "" && !legalProject.MatchString(o.Project) {
		errs = append(errs, fmt.Errorf("project %q is not allowed (use 1 to 128 lower-case letters, digits and _)", o.Project))
	}
	if o.Branch != "" && !legalBranch.MatchString(o.Branch) {
		errs = append(errs, fmt.Errorf("branch %q is not allowed (use 1 to 128 letters, digits, . _ or -)", o.Branch))
	}
	return errors.Join(errs...)
}

// branch is the full name of a project's branch: of its own for each user, unless another one was chosen.
func branch(o StartOptions, user string) string {
	switch {
	case o.Project == "":
		return ""
	case o.Production && o.Branch != "":
		return prodBranch + "." + o.Branch
	case o.Production:
		return prodBranch
	case o.Branch != "":
		return testBranch + o.Branch
	}
	return userBranch + user
}

// resumedBranch is the branch of a run that user resumes: the origin's, but nobody works on another one's own.
func resumedBranch(origin, user string) string {
	if strings.HasPrefix(origin, userBranch) {
		return userBranch + user
	}
	return origin
}

// systemUser is the operating system's name of the user, "" if it has none.
func systemUser() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}
