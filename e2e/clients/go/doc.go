// Package goclient is the program that tests the official Go clients from outside: azsecrets and azkeys with azidentity's
// DefaultAzureCredential, options left at nil, everything taken from the environment. The suite compiles it with the tag
// client and runs it as a process of its own, so that it has the environment of an ordinary program.
package goclient
