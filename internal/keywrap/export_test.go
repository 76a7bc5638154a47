package keywrap

// W is for tests that need what no Wrap makes: the permutation of any integrity value.
var W = w
