from Cython.Build import cythonize
from setuptools import Extension, setup

setup(ext_modules=cythonize([Extension("iip_echo.handler", ["iip_echo/handler.pyx"])],
                            compiler_directives={"language_level": 3}))
